"""
The text of a rule → a tree of typed tests. A small language without calls, code or loops:

    rule  := all ("or" all)*
    all   := test ("and" test)*
    test  := "not" test | "(" rule ")"
           | NAME ("=" | "!=" | "<" | "<=" | ">" | ">=") value
           | NAME ["not"] "in" ("(" literal ("," literal)* ")" | "@" FILE)
           | NAME "is" ["not"] "missing"
    value := literal | [NUMBER "*"] NAME

Names are fields of [schema] and features that no model has to compute first. What cannot be a rule is refused with the
word it stumbles over and what would do.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pipeline.config.keys import closest
from pipeline.errors import InputError
from pipeline.rules.expression import COMPARE, Among, Both, Either, Missing, Not, Number, Test, joined

Kind = Literal["text", "number"]
TOKEN = re.compile(
    r"""\s*(?:(?P<string>"(?:[^"\\]|\\.)*"|'[^']*')
      |(?P<number>-?(?:\d[\d_]*(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)
      |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
      |(?P<file>@[^\s()]+)
      |(?P<op><=|>=|!=|<>|==|[=<>(),*]))""",
    re.VERBOSE,
)
WORDS = frozenset({"and", "or", "not", "in", "is", "missing"})
SAME = {"==": "=", "<>": "!="}
VALUES_MAX = 10_000  # of a watch-list: a rule is read with every run
DEPTH_MAX = 50  # brackets in brackets: more than anybody can read


class RuleError(InputError):
    """A rule that cannot be understood."""


@dataclass(frozen=True)
class Token:
    """A word of a rule and where it begins."""

    kind: str  # string, number, name, word, file, op, end
    text: str
    at: int

    def __str__(self) -> str:
        return "the end of the rule" if self.kind == "end" else f"{self.text!r} (character {self.at + 1})"


@dataclass(frozen=True)
class Vocabulary:
    """What a rule may speak of."""

    kinds: Mapping[str, Kind]
    refused: Mapping[str, str] = field(default_factory=dict)  # name → why it cannot be used
    keep: Callable[[str, str], str] = lambda _column, value: (
        value
    )  # a value as the column stores it: hashed, maybe


def parse(text: str, words: Vocabulary) -> Test:
    """
    Understand a rule.

    Raises
    ------
    RuleError
        With the word it stumbles over, where that is, and what would do.
    """
    parser = _Parser(list(_tokens(text)), words)
    test = parser.rule()
    parser.end()
    return test


def _tokens(text: str) -> Iterator[Token]:
    at, end = 0, len(text.rstrip())
    while at < end:
        found = TOKEN.match(text, at)
        if found is None:
            at = len(text) - len(text[at:].lstrip())
            raise RuleError(
                f"{text[at]!r} (character {at + 1}) begins no name, number or text: put text in quotes"
            )
        kind = str(found.lastgroup)
        said = found[kind]
        if kind == "name" and said.lower() in WORDS:
            kind, said = "word", said.lower()
        yield Token(kind, SAME.get(said, said), found.start(str(found.lastgroup)))
        at = found.end()
    yield Token("end", "", end)


class _Parser:
    """One token after the other, never back."""

    def __init__(self, tokens: Sequence[Token], words: Vocabulary) -> None:
        self._tokens = tokens
        self._words = words
        self._at = 0
        self._depth = 0

    def rule(self) -> Test:
        tests = [self._all()]
        while self._take("or"):
            tests.append(self._all())
        return joined(Either, tests)

    def end(self) -> None:
        if self._next.kind != "end":
            raise RuleError(f"{self._next} is one too many: join tests with and, or")

    @property
    def _next(self) -> Token:
        return self._tokens[self._at]

    def _take(self, *texts: str) -> Token | None:
        """The next token, if it is one of these words or signs."""
        token = self._next
        if token.kind not in ("word", "op") or token.text not in texts:
            return None
        self._at += 1
        return token

    def _all(self) -> Test:
        tests = [self._test()]
        while self._take("and"):
            tests.append(self._test())
        return joined(Both, tests)

    def _test(self) -> Test:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise RuleError(f"{self._next} lies {DEPTH_MAX} brackets deep: write the rule in several")
        try:
            if self._take("not"):
                return Not(self._test())
            if self._take("("):
                test = self.rule()
                self._need(")")
                return test
            return self._about(self._name())
        finally:
            self._depth -= 1

    def _need(self, sign: str) -> None:
        if not self._take(sign):
            raise RuleError(f"{self._next} stands where {sign!r} is missing")

    def _name(self) -> Token:
        """A name that a rule may use."""
        token = self._next
        if token.kind != "name":
            raise RuleError(
                f"{token} stands where a test has to begin: write a field or feature, such as amount > 5000"
            )
        self._at += 1
        why = self._words.refused.get(token.text)
        if why is not None:
            raise RuleError(f"{token} {why}")
        if token.text not in self._words.kinds:
            near = closest(token.text, list(self._words.kinds))
            raise RuleError(
                f"{token} is neither a field of [schema] nor a feature{near or '; fraudwatch rule names lists them'}"
            )
        return token

    def _about(self, name: Token) -> Test:
        if self._take("is"):
            return self._missing(name)
        if self._take("not"):
            if not self._take("in"):
                raise RuleError(f"{self._next} stands where 'in' is missing after 'not'")
            return Not(Among(name.text, self._list(name)))
        if self._take("in"):
            return Among(name.text, self._list(name))
        op = self._take(*COMPARE)
        if op is None:
            raise RuleError(
                f"{self._next} stands where a comparison of {name.text} is missing: one of {' '.join(COMPARE)} in is"
            )
        return self._text_test(name, op) if self._kind(name) == "text" else self._number_test(name, op)

    def _missing(self, name: Token) -> Test:
        negated = self._take("not")
        if not self._take("missing"):
            raise RuleError(f"{self._next} stands where 'missing' is missing after 'is'")
        test = Missing(name.text, self._kind(name) == "text")
        return Not(test) if negated else test

    def _kind(self, name: Token) -> Kind:
        return self._words.kinds[name.text]

    def _text_test(self, name: Token, op: Token) -> Test:
        if op.text not in ("=", "!="):
            raise RuleError(f"{op} does not go with {name.text}, which holds text: use = != or in")
        test = Among(name.text, (self._text(name),))
        return test if op.text == "=" else Not(test)

    def _number_test(self, name: Token, op: Token) -> Test:
        token = self._next
        if token.kind != "name":
            value = self._number(name)
            if not self._take("*"):
                return Number(name.text, op.text, value)
        else:
            value = 1.0
        other = self._name()
        if self._kind(other) == "text":
            raise RuleError(f"{other} holds text and {name.text} numbers: they cannot be compared")
        return Number(name.text, op.text, value, other.text)

    def _list(self, name: Token) -> tuple[str, ...] | tuple[float, ...]:
        if self._next.kind == "file":
            return self._from_file(name)
        self._need("(")
        one = self._text if self._kind(name) == "text" else self._number
        values = [one(name)]
        while self._take(","):
            values.append(one(name))
        self._need(")")
        return tuple(dict.fromkeys(values))  # type: ignore[return-value]  # all of one kind

    def _from_file(self, name: Token) -> tuple[str, ...] | tuple[float, ...]:
        token = self._next
        self._at += 1
        lines = _lines(token)
        if self._kind(name) == "text":
            return tuple(dict.fromkeys(self._words.keep(name.text, line) for line in lines))
        try:
            return tuple(dict.fromkeys(float(line) for line in lines))
        except ValueError as error:
            raise RuleError(f"{token}: {name.text} holds numbers, but {error}") from None

    def _text(self, name: Token) -> str:
        token = self._next
        if token.kind != "string":
            raise RuleError(
                f'{token} is no text, but {name.text} holds text: put it in quotes, as in {name.text} = "XX"'
            )
        self._at += 1
        return self._words.keep(name.text, _unquoted(token))

    def _number(self, name: Token) -> float:
        token = self._next
        if token.kind != "number":
            raise RuleError(f"{token} is no number, but {name.text} holds numbers: write it without quotes")
        self._at += 1
        return float(token.text.replace("_", ""))


def _unquoted(token: Token) -> str:
    if token.text.startswith("'"):
        return token.text[1:-1]
    try:
        return str(json.loads(token.text, strict=False))
    except ValueError:
        raise RuleError(
            f"{token} has a backslash that means nothing: double it, or use single quotes"
        ) from None


def _lines(token: Token) -> list[str]:
    """The values of a watch-list, one a line; blank lines and lines that begin with # are skipped."""
    try:
        text = Path(token.text[1:]).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        raise RuleError(f"{token} cannot be read as text: name a file with one value a line") from None
    lines = [line.strip() for line in text.splitlines()]
    values = [line for line in lines if line and not line.startswith("#")]
    if not 0 < len(values) <= VALUES_MAX:
        raise RuleError(f"{token} holds {len(values):,} values: a watch-list has 1 to {VALUES_MAX:,}")
    return values

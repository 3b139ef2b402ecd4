"""
Parses the text of a rule to a tree of conditions. It is a small language without calls, code or loops:

    rule        := conjunction ("or" conjunction)*
    conjunction := condition ("and" condition)*
    condition   := "not" condition | "(" rule ")"
                 | NAME ("=" | "!=" | "<" | "<=" | ">" | ">=") value
                 | NAME ["not"] "in" ("(" literal ("," literal)* ")" | "@" FILE)
                 | NAME "is" ["not"] "missing"
    value       := literal | [NUMBER "*"] NAME

Names are fields of [schema] and features that do not depend on a model. Error messages name the token that cannot be
parsed, its position and a remedy.
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pipeline.config.key_names import did_you_mean
from pipeline.errors import InputError
from pipeline.rules.expression import (
    OPERATORS,
    And,
    Condition,
    In,
    IsMissing,
    Not,
    NumberComparison,
    Or,
    combine,
)

Kind = Literal["text", "number"]
TOKEN = re.compile(
    r"""\s*(?:(?P<string>"(?:[^"\\]|\\.)*"|'[^']*')
      |(?P<number>-?(?:\d[\d_]*(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)
      |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
      |(?P<file>@[^\s()]+)
      |(?P<op><=|>=|!=|<>|==|[=<>(),*]))""",
    re.VERBOSE,
)
KEYWORDS = frozenset({"and", "or", "not", "in", "is", "missing"})
OPERATOR_SYNONYMS = {"==": "=", "<>": "!="}
VALUES_MAX = 10_000  # of a watch-list, because every run reads all rules
DEPTH_MAX = 50  # of nested brackets and nots


class RuleError(InputError):
    """A rule cannot be parsed."""

    code = "bad_rule"


@dataclass(frozen=True)
class Token:
    """A token of a rule and the position at which it begins."""

    kind: str  # string, number, name, word, file, op, end
    text: str
    at: int

    def __str__(self) -> str:
        return "the end of the rule" if self.kind == "end" else f"{self.text!r} (char {self.at + 1})"


@dataclass(frozen=True)
class Vocabulary:
    """The names that a rule may use."""

    kinds: Mapping[str, Kind]
    unavailable: Mapping[str, str] = field(default_factory=dict)  # name → why a rule cannot use it
    stored_value: Callable[[str, str], str] = lambda _column, value: (
        value
    )  # a value as its column stores it, for example hashed


def parse(text: str, vocabulary: Vocabulary) -> Condition:
    """
    Parse a rule.

    Raises
    ------
    RuleError
        The rule cannot be parsed; the message names the token, its position and a remedy.
    """
    parser = _RuleParser(list(_tokens(text)), vocabulary)
    condition = parser.rule()
    parser.end()
    return condition


def _tokens(text: str) -> Iterator[Token]:
    at, end = 0, len(text.rstrip())
    while at < end:
        match = TOKEN.match(text, at)
        if match is None:
            at = len(text) - len(text[at:].lstrip())
            raise RuleError(
                f"unexpected {text[at]!r} (char {at + 1}): expected a name, a number or text in quotes"
            )
        kind = str(match.lastgroup)
        token = match[kind]
        if kind == "name" and token.lower() in KEYWORDS:
            kind, token = "word", token.lower()
        yield Token(kind, OPERATOR_SYNONYMS.get(token, token), match.start(str(match.lastgroup)))
        at = match.end()
    yield Token("end", "", end)


class _RuleParser:
    """A recursive-descent parser that never steps back."""

    def __init__(self, tokens: Sequence[Token], vocabulary: Vocabulary) -> None:
        self._tokens = tokens
        self._vocabulary = vocabulary
        self._at = 0
        self._depth = 0

    def rule(self) -> Condition:
        tests = [self._conjunction()]
        while self._accept("or"):
            tests.append(self._conjunction())
        return combine(Or, tests)

    def end(self) -> None:
        if self._next.kind != "end":
            raise RuleError(f"unexpected {self._next}: join conditions with and, or")

    @property
    def _next(self) -> Token:
        return self._tokens[self._at]

    def _accept(self, *texts: str) -> Token | None:
        """Consume and return the next token if it is one of these keywords or operators."""
        token = self._next
        if token.kind not in ("word", "op") or token.text not in texts:
            return None
        self._at += 1
        return token

    def _conjunction(self) -> Condition:
        tests = [self._condition()]
        while self._accept("and"):
            tests.append(self._condition())
        return combine(And, tests)

    def _condition(self) -> Condition:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise RuleError(
                f"{self._next} is nested more than {DEPTH_MAX} levels deep: split the rule into several"
            )
        try:
            if self._accept("not"):
                return Not(self._condition())
            if self._accept("("):
                test = self.rule()
                self._expect(")")
                return test
            return self._comparison(self._name())
        finally:
            self._depth -= 1

    def _expect(self, sign: str) -> None:
        if not self._accept(sign):
            raise RuleError(f"expected {sign!r}, found {self._next}")

    def _name(self) -> Token:
        """Consume a name that a rule may use."""
        token = self._next
        if token.kind != "name":
            raise RuleError(
                f"expected a condition, found {token}: begin it with a field or feature, as in amount > 5000"
            )
        self._at += 1
        reason = self._vocabulary.unavailable.get(token.text)
        if reason is not None:
            raise RuleError(f"{token} {reason}")
        if token.text not in self._vocabulary.kinds:
            near = did_you_mean(token.text, list(self._vocabulary.kinds))
            raise RuleError(
                f"{token} is neither a field of [schema] nor a feature{near}", code="unknown_name"
            )
        return token

    def _comparison(self, name: Token) -> Condition:
        if self._accept("is"):
            return self._missing(name)
        if self._accept("not"):
            if not self._accept("in"):
                raise RuleError(f"expected 'in' after 'not', found {self._next}")
            return Not(In(name.text, self._list(name)))
        if self._accept("in"):
            return In(name.text, self._list(name))
        op = self._accept(*OPERATORS)
        if op is None:
            raise RuleError(
                f"expected an operator after {name.text!r}, found {self._next}: use one of {' '.join(OPERATORS)} in is"
            )
        return (
            self._text_comparison(name, op)
            if self._kind(name) == "text"
            else self._number_comparison(name, op)
        )

    def _missing(self, name: Token) -> Condition:
        negated = self._accept("not")
        if not self._accept("missing"):
            raise RuleError(f"expected 'missing' after 'is', found {self._next}")
        test = IsMissing(name.text, self._kind(name) == "text")
        return Not(test) if negated else test

    def _kind(self, name: Token) -> Kind:
        return self._vocabulary.kinds[name.text]

    def _text_comparison(self, name: Token, op: Token) -> Condition:
        if op.text not in ("=", "!="):
            raise RuleError(f"operator {op} is not allowed for text field {name.text!r}; use =, != or in")
        test = In(name.text, (self._text(name),))
        return test if op.text == "=" else Not(test)

    def _number_comparison(self, name: Token, op: Token) -> Condition:
        token = self._next
        if token.kind != "name":
            value = self._number(name)
            if not self._accept("*"):
                return NumberComparison(name.text, op.text, value)
        else:
            value = 1.0
        other = self._name()
        if self._kind(other) == "text":
            raise RuleError(f"text field {other} cannot be compared with numeric field {name.text!r}")
        return NumberComparison(name.text, op.text, value, other.text)

    def _list(self, name: Token) -> tuple[str, ...] | tuple[float, ...]:
        if self._next.kind == "file":
            return self._from_file(name)
        self._expect("(")
        parse_value = self._text if self._kind(name) == "text" else self._number
        values = [parse_value(name)]
        while self._accept(","):
            values.append(parse_value(name))
        self._expect(")")
        return tuple(dict.fromkeys(values))  # type: ignore[return-value]  # all of one kind

    def _from_file(self, name: Token) -> tuple[str, ...] | tuple[float, ...]:
        token = self._next
        self._at += 1
        lines = _lines(token)
        if self._kind(name) == "text":
            return tuple(dict.fromkeys(self._vocabulary.stored_value(name.text, line) for line in lines))
        try:
            numbers = tuple(dict.fromkeys(float(line) for line in lines))
        except ValueError as error:
            raise RuleError(f"{token}: field {name.text!r} is numeric, but {error}") from None
        if not all(map(math.isfinite, numbers)):
            raise RuleError(f"{token}: field {name.text!r} is numeric, but a line is no finite number")
        return numbers

    def _text(self, name: Token) -> str:
        token = self._next
        if token.kind != "string":
            raise RuleError(
                f'{token} is not text, but {name.text!r} is a text field: put the value in quotes, as in {name.text} = "XX"'
            )
        self._at += 1
        return self._vocabulary.stored_value(name.text, _unquoted(token))

    def _number(self, name: Token) -> float:
        token = self._next
        if token.kind != "number":
            raise RuleError(
                f"{token} is not a number, but {name.text!r} is numeric: write the number without quotes"
            )
        self._at += 1
        value = float(token.text.replace("_", ""))
        if not math.isfinite(value):
            raise RuleError(f"{token} is beyond what a number can be: write a smaller one")
        return value


def _unquoted(token: Token) -> str:
    try:
        value = token.text[1:-1] if token.text.startswith("'") else str(json.loads(token.text, strict=False))
        value.encode()
    except UnicodeEncodeError:
        raise RuleError(f"{token} has half of a character (a lone surrogate): write it whole") from None
    except ValueError:
        raise RuleError(
            f"{token} has an invalid backslash escape: double the backslash, or use single quotes"
        ) from None
    return value


def _lines(token: Token) -> list[str]:
    """The values of a watch-list, one a line; blank lines and lines that begin with # are skipped."""
    try:
        text = Path(token.text[1:]).read_text(encoding="utf-8-sig")
    except (OSError, ValueError):  # no text, or no name of a file
        raise RuleError(f"{token} cannot be read as text: give a text file with one value a line") from None
    lines = [line.strip() for line in text.splitlines()]
    values = [line for line in lines if line and not line.startswith("#")]
    if not 0 < len(values) <= VALUES_MAX:
        raise RuleError(f"{token} has {len(values):,} values: a watch-list must have 1 to {VALUES_MAX:,}")
    return values

"""Any text is a rule or gets one sentence, and any rule has an answer for every row."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.rules.expression import Condition
from pipeline.rules.parser import RuleError, Vocabulary, parse
from storage.frames import Coded, Floats

WORDS = Vocabulary(
    {"amount": "number", "age": "number", "country": "text"}, {"card_rate": "is computed by each model"}
)
ODD = [0.0, -0.0, 1.5, -1e308, 1e308, 5e-324, float("nan"), float("inf"), float("-inf")]
TEXTS = ["", " ", "FR", "X\"Y'", "\u202e", "a\x00b", "é" * 300]

NUMBERS = st.one_of(
    st.sampled_from(["0", "-0", "1_000", "1e308", "1e999", ".5", "5.", "1__0", "9" * 400]),
    st.floats(allow_nan=False).map(repr),
)
QUOTED = st.one_of(
    st.sampled_from(['""', "'FR'", '"X\\"Y"', '"\\u202e"', '"\\ud800"', '"\\u0000"', '"\\x"', '"']),
    st.text(max_size=8).map(repr),
)
NAMES = st.sampled_from(["amount", "age", "country", "card_rate", "missing", "zzz", "Amount"])
TOKENS = st.one_of(
    NAMES, NUMBERS, QUOTED, st.text(max_size=3),
    st.sampled_from(["and", "or", "not", "in", "is", "(", ")", ",", "*", "=", "!=", "<", ">=", "@", "@/dev/null"]),
)  # fmt: skip
TESTS = st.one_of(
    st.tuples(st.sampled_from(["amount", "age"]), st.sampled_from(["<", "<=", "=", "!=", ">="]), NUMBERS),
    st.tuples(st.just("amount"), st.just(">"), NUMBERS, st.just("* age")),
    st.tuples(st.just("country"), st.sampled_from(["=", "!="]), QUOTED),
    st.tuples(st.just("country not in ("), QUOTED, st.just(")")),
    st.tuples(st.sampled_from(["age", "country"]), st.sampled_from(["is missing", "is not missing"])),
).map(" ".join)
RULES = st.recursive(
    TESTS,
    lambda rules: st.one_of(
        rules.map("not ({})".format),
        st.tuples(rules, st.sampled_from(["and", "or"]), rules).map(
            lambda parts: "({} {} {})".format(*parts)
        ),
    ),
    max_leaves=12,
)


class Rows:
    """Rows of odd values, each with each."""

    def numbers(self, name: str) -> Floats:
        numbers = np.array(ODD)
        return np.tile(numbers, len(ODD)) if name == "amount" else np.repeat(numbers, len(ODD))

    def texts(self, _name: str) -> Coded:
        codes = np.arange(len(ODD) ** 2, dtype=np.int32) % (len(TEXTS) + 1) - 1
        return Coded(codes, np.array(TEXTS, dtype=object))


def parsed(text: str) -> Condition | None:
    """The rule, None if it was refused; any other exception goes through."""
    try:
        return parse(text, WORDS)
    except RuleError as error:
        sentence = str(error)
    assert sentence
    assert "\n" not in sentence
    return None


@settings(max_examples=300)
@given(st.one_of(st.text(), st.lists(TOKENS, max_size=12).map(" ".join), RULES))
@pytest.mark.filterwarnings("error")
def test_any_text_is_a_rule_with_an_answer_for_every_row_or_gets_one_sentence(text: str) -> None:
    rule = parsed(text)
    if rule is None:
        return
    truth = rule.evaluate(Rows())
    assert truth.true.shape == truth.false.shape == (len(ODD) ** 2,)
    assert truth.true.dtype == truth.false.dtype == bool
    assert not np.any(truth.true & truth.false)
    written = rule.to_text()
    written.encode()
    again = parsed(written)
    assert again is not None, written
    assert again.to_text() == written
    assert np.array_equal(again.evaluate(Rows()).true, truth.true)
    assert rule.to_text(3)
    assert rule.column_names()

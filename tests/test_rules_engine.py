"""Rules: what they may say, what they flag, and that nothing about the past changes with them."""

from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from pipeline.cli.review.rules import preview_lines
from pipeline.config.config import Config
from pipeline.config.database import open_configured
from pipeline.errors import InputError
from pipeline.features.history import feature_fields
from pipeline.rules.engine import stored_text, vocabulary
from pipeline.rules.parser import VALUES_MAX, RuleError, Vocabulary, parse
from pipeline.rules.satisfiable import may_match
from pipeline.runs.scoring_run import run
from pipeline.services.review import rules
from pipeline.services.session import Session
from storage.database.database import Store
from storage.errors import Unknown
from storage.frames import DAY, HOUR, Coded, Floats
from storage.review import rules_and_mutes
from storage.review.rules_and_mutes import RULE
from storage.runs import scoring_queue
from tests.support.databases import with_url
from tests.support.sql import query
from tests.support.worlds import FROM, NOW, SMALL, TO

WORDS = Vocabulary(
    {"amount": "number", "age": "number", "country": "text", "card": "text"},
    {"card_fraud_rate_7d": "is computed by each model"},
)
CONFIG = Config.model_validate({"schema": {"entities": ["customer_id"], "numeric": ["age"], "hash": []}})


class Table:
    """Five rows; the last one lacks everything but its amount."""

    def numbers(self, name: str) -> Floats:
        return np.array(
            {"amount": [10.0, 20.0, 30.0, 40.0, 50.0], "age": [1.0, 4.0, 15.0, 40.0, np.nan]}[name]
        )

    def texts(self, name: str) -> Coded:
        values = {"country": ["FR", "DE", 'X"Y'], "card": ["c1", "c2", "c3"]}[name]
        return Coded(np.array([0, 1, 2, 0, -1], dtype=np.int32), np.array(values, dtype=object))


HOLDS = [
    # rule, rows it holds for, how it is written down
    ("amount > 20", [2, 3, 4], "amount > 20"),
    ("amount>=20 and amount<=40", [1, 2, 3], "amount >= 20 and amount <= 40"),
    ("amount == 10 or amount <> 10", [0, 1, 2, 3, 4], "amount = 10 or amount != 10"),
    ("amount > 1_000 or amount = 2e1", [1], "amount > 1000 or amount = 20"),
    ("amount > -5 and amount < 10.5", [0], "amount > -5 and amount < 10.5"),
    ('country = "FR"', [0, 3], 'country = "FR"'),
    ('country in (\'FR\', "X\\"Y")', [0, 2, 3], 'country in ("FR", "X\\"Y")'),
    ("amount in (10, 50)", [0, 4], "amount in (10, 50)"),
    # and before or, brackets before both
    (
        'amount = 50 or amount = 10 and country = "FR"',
        [0, 4],
        'amount = 50 or (amount = 10 and country = "FR")',
    ),
    (
        '(amount = 50 or amount = 10) and country = "FR"',
        [0],
        '(amount = 50 or amount = 10) and country = "FR"',
    ),
    # against another column, alone or a multiple of it
    ("amount > 2 * age", [0, 1], "amount > 2 * age"),
    ("age < amount", [0, 1, 2], "age < amount"),
    # what is missing is unknown: neither it nor its opposite holds
    ('country != "FR"', [1, 2], 'not country = "FR"'),
    ('not country = "FR"', [1, 2], 'not country = "FR"'),
    ('country not in ("FR", "DE")', [2], 'not country in ("FR", "DE")'),
    ("not age > 1000", [0, 1, 2, 3], "not age > 1000"),
    ("age > 1000 or amount = 50", [4], "age > 1000 or amount = 50"),
    ("not (age > 1000 and amount = 50)", [0, 1, 2, 3], "not (age > 1000 and amount = 50)"),
    ("country is missing", [4], "country is missing"),
    ("age is not missing AND NOT amount < 30", [2, 3], "not age is missing and not amount < 30"),
]


@pytest.mark.parametrize(("text", "rows", "again"), HOLDS)
def test_a_rule_holds_where_it_says_and_is_written_so_that_it_reads_the_same(
    text: str, rows: list[int], again: str
) -> None:
    test = parse(text, WORDS)
    assert np.flatnonzero(test.evaluate(Table()).true).tolist() == rows
    assert test.to_text() == again
    assert parse(test.to_text(), WORDS) == test


REFUSED = [
    # what is no rule, and what is said of it
    ("", "expected a condition, found the end of the rule"),
    ("amount >", "the end of the rule is not a number, but 'amount' is numeric"),
    ("amont > 5", "'amont' (char 1) is neither a field of [schema] nor a feature, did you mean amount?"),
    ("zzz > 5", "'zzz' (char 1) is neither a field of [schema] nor a feature"),
    ('amount > "5"', "(char 10) is not a number, but 'amount' is numeric: write the number without quotes"),
    ("country = 5", "'5' (char 11) is not text, but 'country' is a text field: put the value in quotes"),
    ("country = FR", "'FR' (char 11) is not text"),
    ('country > "FR"', "operator '>' (char 9) is not allowed for text field 'country'; use =, != or in"),
    ("amount > country", "text field 'country' (char 10) cannot be compared with numeric field 'amount'"),
    ("amount > 5 amount > 6", "unexpected 'amount' (char 12): join conditions with and, or"),
    ("(amount > 5", "expected ')', found the end of the rule"),
    ("amount in 5", "expected '(', found '5' (char 11)"),
    ("country in (1)", "'1' (char 13) is not text"),
    ("amount is 5", "expected 'missing' after 'is', found '5' (char 11)"),
    ("amount not 5", "expected 'in' after 'not', found '5' (char 12)"),
    ("amount", "expected an operator after 'amount', found the end of the rule"),
    ("card_fraud_rate_7d > 0.1", "'card_fraud_rate_7d' (char 1) is computed by each model"),
    ("amount > 5; drop table rules", "unexpected ';' (char 11): expected a name, a number or text in quotes"),
    ("__import__('os')", "'__import__' (char 1) is neither a field"),
    ("amount > 5 and " + "(" * 80 + "amount > 5" + ")" * 80, "is nested more than 50 levels deep"),
    ('country = "\\q"', "has an invalid backslash escape"),
    ("amount > 1e400", "'1e400' (char 10) is beyond what a number can be"),
    ('country = "\\ud800"', "has half of a character"),
    ("card in @no\0where.txt", "cannot be read as text"),
    ("card in @nowhere.txt", "'@nowhere.txt' (char 9) cannot be read as text"),
]


# A rule, and whether any payment could match it.
POSSIBLE = [
    ("amount > 5 and amount < 3", False),
    ("amount >= 5 and amount <= 5", True),
    ("amount > 5 or amount < 3", True),
    ("not (amount > 5) and amount > 5", False),
    ("amount is missing and not amount is missing", False),
    ("amount > age and amount < age", True),  # two columns are not compared in every combination
    ('country = "FR" and country = "DE"', False),
    ('country = "FR" and card = "DE"', True),
    ('country = ""', False),  # an empty text is a missing one
    ('not country in ("FR", "DE")', True),
    ('country in ("FR", "DE") and not country in ("DE", "FR", "IT")', False),
    ('country is missing and country = "FR"', False),
    ('(amount > 5 and amount < 3) or country = "FR"', True),
]


@pytest.mark.parametrize(("text", "possible"), POSSIBLE)
def test_a_rule_that_no_payment_can_match_is_known(text: str, possible: bool) -> None:
    assert may_match(parse(text, WORDS)) == possible


def test_a_rule_that_no_payment_can_match_is_refused() -> None:
    with pytest.raises(
        RuleError, match="no payment can match 'amount > 5 and amount < 3': its conditions contradict"
    ):
        stored_text("amount > 5 and amount < 3", CONFIG, displays=True)


@pytest.mark.parametrize(("text", "said"), REFUSED)
def test_what_is_no_rule_is_refused_with_the_word_and_the_remedy(text: str, said: str) -> None:
    with pytest.raises(RuleError) as caught:
        parse(text, WORDS)
    assert said in str(caught.value)
    assert isinstance(caught.value, InputError)


def test_a_watch_list_is_read_from_a_file_and_written_out(tmp_path: Path) -> None:
    path = tmp_path / "stolen.txt"
    path.write_text("# of the police\nc1\n\n c3 \nc1\n")
    test = parse(f"card in @{path}", WORDS)
    assert test.to_text() == 'card in ("c1", "c3")'
    assert test.to_text(1) == "card in (2 values)"
    path.write_text("\n".join(str(n) for n in range(VALUES_MAX + 1)))
    with pytest.raises(RuleError, match="10,001 values"):
        parse(f"card in @{path}", WORDS)
    path.write_text("1\ninf\n")
    with pytest.raises(RuleError, match="a line is no finite number"):
        parse(f"age in @{path}", WORDS)
    path.write_text("1\nx\n")
    with pytest.raises(RuleError, match="field 'age' is numeric"):
        parse(f"age in @{path}", WORDS)


def test_a_rule_may_name_fields_and_features_that_no_model_computes() -> None:
    words = vocabulary(feature_fields(CONFIG))
    assert words.kinds["amount"] == words.kinds["age"] == words.kinds["customer_id_count_7d"] == "number"
    assert words.kinds["customer_id"] == words.kinds["country"] == "text"
    assert "customer_id_fraud_rate_7d" in words.unavailable
    assert "country_hash" not in words.kinds


def test_values_of_hashed_fields_are_stored_hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    from pydantic import SecretStr

    config = Config.model_validate({"schema": {"entities": ["card_id"], "hash": ["card_id"]}})
    config._secrets["FRAUDWATCH_HASH_KEY"] = SecretStr("0123456789abcdef")
    text, _ = stored_text('card_id in ("4111") and country = "FR"', config, displays=True)
    assert "4111" not in text
    assert 'country = "FR"' in text
    assert parse(text, vocabulary(feature_fields(config))).to_text() == text  # and not hashed once more


def rule(text: str, now: int, until: int = NOW + 365 * DAY) -> dict[str, object]:
    said, fields = stored_text(text, SMALL, displays=True)
    return {
        "columns": {"text": said, "fields": dict(fields)},
        "until": until,
        "reason": "why",
        "by": "ana",
        "now": now,
    }


@pytest.mark.one_engine
def test_a_rule_flags_what_happens_while_it_is_in_force_and_no_detector_flagged(loaded: Store) -> None:
    scoring_queue.set_starts_at(loaded, "live", FROM)
    run(loaded, SMALL, as_of=FROM + 5 * DAY + 2 * HOUR, policy="live", by="test")
    before = query(loaded, "SELECT * FROM scores ORDER BY transaction_id")
    number, start = rules_and_mutes.add(
        loaded, RULE, **rule("amount > 30 and customer_id_count_7d >= 0", FROM)
    )
    assert start == FROM + 5 * DAY + 2 * HOUR + 1  # after all that the run was promised to know
    assert query(loaded, "SELECT actor, action, subject FROM audit") == [
        ("ana", "add rule", f"rule {number}")
    ]
    run(loaded, SMALL, as_of=FROM + 9 * DAY + 2 * HOUR, policy="live", by="test")
    ended = rules_and_mutes.end(loaded, RULE, number, "bo", FROM + 9 * DAY + 3 * HOUR)
    with pytest.raises(Unknown, match="it has ended"):
        rules_and_mutes.end(loaded, RULE, number, "bo", NOW)
    run(loaded, SMALL, as_of=NOW, policy="live", by="test")
    ids = ", ".join(f"'{row[1]}'" for row in before)
    assert (
        query(loaded, f"SELECT * FROM scores WHERE transaction_id IN ({ids}) ORDER BY transaction_id")
        == before
    )
    flags = query(
        loaded,
        "SELECT f.channel, t.event_time, t.amount_base, s.decision_value, s.threshold, s.flagged FROM flags f "
        "JOIN scores s USING (policy, transaction_id) JOIN transactions t USING (transaction_id) WHERE f.channel = 'rule'",
    )
    assert len(flags) > 3
    assert {row[3:] for row in flags} == {(1.0, 1.0, True)} or {row[3:] for row in flags} == {(1.0, 1.0, 1)}
    assert min(float(row[2]) for row in flags) > 30  # type: ignore[arg-type]
    reasons = query(loaded, "SELECT reasons FROM flags WHERE channel = 'rule'")[0][0]
    assert f"rule {number}: amount > 30 and customer_id_count_7d >= 0" in str(reasons)
    assert rules_and_mutes.flagged_by_rule(loaded, "live") == {number: len(flags)}
    between = (
        "SELECT COUNT(*) FROM scores s JOIN visible_transactions t ON t.transaction_id = s.transaction_id "
        "WHERE t.amount_base > 30 AND NOT s.flagged AND t.event_time {} (SELECT {} FROM rules)"
    )
    inside = between.format(">=", "effective_from") + " AND t.event_time < (SELECT ended_at FROM rules)"
    assert query(loaded, inside) == [(0,)]
    assert query(loaded, between.format(">=", "ended_at"))[0][0] > 0  # type: ignore[operator]
    assert ended > start


def test_a_rule_keeps_its_fields_and_windows_when_the_configuration_moves_on(loaded: Store, url: str) -> None:
    scoring_queue.set_starts_at(loaded, "live", FROM)
    run(loaded, with_url(SMALL, url), as_of=FROM + 2 * DAY, policy="live", by="test")
    said = rule("amount > 30 and terminal_id_count_7d >= 0 and terminal_id is not missing", FROM)
    rules_and_mutes.add(loaded, RULE, **said)  # type: ignore[arg-type]
    schema = SMALL.schema_.model_copy(update={"entities": ("customer_id",)})
    windows = SMALL.features.model_copy(update={"windows": (DAY,)})
    ungated = SMALL.training.model_copy(
        update={"gate": False}
    )  # it would refuse a model that no longer sees terminals
    moved = SMALL.model_copy(update={"schema_": schema, "features": windows, "training": ungated})
    with open_configured(with_url(moved, url)) as narrow:
        tally = run(narrow, with_url(moved, url), as_of=FROM + 9 * DAY + 2 * HOUR, policy="live", by="test")
    assert not tally.failures
    models = "SELECT COUNT(DISTINCT s.model_id) FROM flags f JOIN scores s USING (policy, transaction_id) WHERE f.channel = 'rule'"
    assert query(loaded, models) == [(2,)]  # one that knows the fields, and the one after it that does not


def test_a_preview_counts_what_a_rule_would_have_flagged_and_what_that_was(loaded: Store) -> None:
    session = Session(loaded, SMALL, "ana", lambda: NOW)
    found = rules.preview_rule(session, "amount > 150", 20)
    end = query(loaded, "SELECT MAX(event_time) FROM transactions")[0][0]
    large = query(loaded, "SELECT COUNT(*), SUM(amount_base) FROM transactions WHERE amount_base > 150")[0]
    assert 0 < found.transactions < large[0]  # type: ignore[operator]
    assert found.amount.currency == "EUR"
    assert found.amount.value == found.amount.value.quantize(Decimal("0.01"))  # cents, to the last one
    assert found.unflagged == found.transactions  # nothing is scored yet
    said = "\n".join(preview_lines(found))
    assert f"would have flagged {found.transactions} transactions" in said
    assert str(end)[:10] in said
    assert "known to be fraud by now" in said
    assert "old enough for all labels to be known" in said
    assert found.fraud > found.mature_fraud > 0.5 * found.mature > 0
    young = rules.preview_rule(session, "amount > 150", 3)
    assert "none is old enough" in "\n".join(preview_lines(young))
    assert "labels.maturity = 5d" in "\n".join(preview_lines(young))
    nothing = rules.preview_rule(session, "amount > 1e9", 20)
    assert "nothing matched" in "\n".join(preview_lines(nothing))
    assert rules.preview_rule(session, "customer_id_count_1d > 2", 5).transactions > 0
    assert TO  # the span the history covers

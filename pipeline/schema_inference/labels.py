"""
The column of labels: its name, its words in seven languages, and disputes that say only what was fraud.

And the columns that leak it, because they are known only after the payment: by their names, by what their values tell of the
label, or by being there.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config.sections import LabelsSection
from pipeline.ingest.checks.disputes import OTHER, ReasonCodes
from pipeline.ingest.formats.arrow_arrays import Arrow, Bools, as_bools
from pipeline.ingest.formats.columns import texts
from pipeline.number_text import percent
from pipeline.schema_inference import names
from pipeline.schema_inference.column_profile import ColumnProfile
from pipeline.schema_inference.draft import CHECK, SchemaDraft, quoted
from pipeline.schema_inference.payment_roles import PAID

WORDS_MAX = 50  # a column with more different values holds no labels
RARE = 0.1  # share of rows with a dispute, at most: a column that is nearly always empty says only what was fraud
REASONS_MAX = 5  # that a reason lists
LEAK_ROWS_MIN = 3  # with fewer rows a value tells nothing
TELLING = 0.9  # share of fraud among the rows with a telling value
COVERED = 0.1  # share of all frauds that have one, at least
LEAK_VALUES_MAX = (
    50  # of a column whose single values are looked at; entities have more, and a stolen card is no leak
)
DEFAULTS = LabelsSection()
# Pairs of words for yes and no: one letter means what its pair says (F and G: fraud and genuine; T and F: true and false).
YES_NO = (
    ("1", "0"), ("true", "false"), ("t", "f"), ("yes", "no"), ("y", "n"), ("ja", "nein"), ("ja", "nee"), ("j", "n"), ("oui", "non"),
    ("o", "n"), ("si", "no"), ("s", "n"), ("sim", "nao"), ("wahr", "falsch"), ("vrai", "faux"), ("verdadero", "falso"), ("vero", "falso"),
    ("verdadeiro", "falso"), ("waar", "onwaar"), ("v", "f"), ("f", "g"), ("f", "l"), ("f", "n"), ("bad", "good"), ("fraud", "ok"),
)  # fmt: skip
YES_WORDS = frozenset(yes for yes, _ in YES_NO) - {
    "bad",
    "fraud",
}  # which say fraud only in a column of that name
_FRAUD_TEXT = """
    fraud fraudulent fraudulently fraudulento fraudulenta fraudolento fraudolenta frauduleux frauduleuse
    frauduleus fraude frode betrug betrugsfall betruegerisch chargeback scam confirmed_fraud
    fraud_confirmed is_fraud illegitimate fraudster 不正 欺诈 欺詐
"""
FRAUD = frozenset(_FRAUD_TEXT.split())
_GENUINE_TEXT = """
    genuine legit legitimate legitimo legitima legittimo legitime echt authentisch not_fraud no_fraud
    non_fraud nofraud notfraud kein_betrug keine normal clean valid ok good safe none 正常 合法
"""
GENUINE = frozenset(_GENUINE_TEXT.split())
LABEL_VALUES_MAX = 3  # of a column that holds labels by its values, whatever its name is
_FRAUD_VALUE = re.compile(
    r"(.*_)?(fraud(ulent)?|fraude|frode|betrug|scam|charge_?back)(_(confirmed|reported|proven|bestaetigt|gemeldet|confirmad[ao]|confirmee?|transaction|payment))?"
)
_NO_FRAUD = re.compile(  # no fraud, or only perhaps
    r"(^|_)(no|not|non|kein|keine?|nicht|pas|sin|sem|geen|suspect\w*|suspicion|possible|potential|maybe|likely|anti|verdacht\w*|sospech\w*|open|pending)(_|$)"
)
_UNSURE = re.compile(r"suspect|review|pending|open|unknown|unclear|investigat|check|offen|pruef|verdacht")
_KIND_NAME = re.compile(r"(^|_)(types?|kind|art|tipo|soort|vorgang|code|description|buchungstext|event)(_|$)")


def find_label(draft: SchemaDraft) -> None:
    """Find the label column, if there is one, its words, and the time at which labels became known."""
    if draft.payments is not None:
        return  # disputes are events
    candidates = [c for c in draft.unassigned.values() if 0 < len(c.distinct) <= WORDS_MAX]
    column = names.first_named([c for c in candidates if c.binary], names.LABEL)
    column = column or names.first_named([c for c in candidates if _meanings(c)], names.LABEL)
    column = column or next((c for c in candidates if _is_dispute(c)), None)
    column = column or next((c for c in candidates if _holds_labels(c)), None)
    if column is None:
        draft.decide(
            "is_fraud",
            "",
            "no column holds labels: ingest labels by themselves, from a file with the columns of [labels] (init --labels FILE proposes them)",
        )
    else:
        draft.fraud = column
        if _says_only_fraud(column):
            _decide_only_fraud(draft, column)
        else:
            _decide_words(draft, column)
        _find_known_at(draft, column)
    for other in list(draft.unassigned.values()):
        if _may_hold_labels(other):
            reason = "its values may say what was fraud: set is_fraud to it if it is your label"
            draft.leave_out(other, CHECK + reason)


def is_fraud(draft: SchemaDraft) -> Bools:
    """Which rows the label column calls fraud."""
    assert draft.fraud is not None
    return says_fraud(draft, draft.fraud.text)


def says_fraud(draft: SchemaDraft, column: Arrow) -> Bools:
    """Which values of the label column are fraud: by their word, or as the reason of a dispute."""
    assert draft.fraud is not None
    words, codes = labels_section(draft), ReasonCodes(labels_section(draft))
    others = {*words.genuine_words, *words.unlabelled_words}
    listed = [
        word
        for word in {value.lower() for value in draft.fraud.distinct}
        if word in words.fraud_words or (word not in others and codes.is_fraud(word))
    ]
    return as_bools(
        pc.is_in(pc.utf8_lower(texts(column)), pa.array([*listed, *words.fraud_words], pa.string()))
    )


def labels_section(draft: SchemaDraft) -> LabelsSection:
    """[labels] as it is proposed so far: words and reasons."""
    keys = ("fraud_words", "genuine_words", "unlabelled_words", "fraud_reasons", "dispute_types")
    written = {key: draft.keys[f"labels.{key}"] for key in keys if f"labels.{key}" in draft.keys}
    return LabelsSection.model_validate(written)


def says_genuine(draft: SchemaDraft) -> bool:
    """Whether the labels also say what was genuine."""
    if draft.fraud is None:
        return False
    words = labels_section(draft).genuine_words
    return any(value.lower() in words for value in draft.fraud.distinct)


def _meanings(column: ColumnProfile) -> dict[str, str] | None:
    """Fraud or genuine for each word (in lower case) that is one of these; None if none is fraud."""
    spelled = {value.lower(): names.normalised(value) or value.strip() for value in column.distinct}
    plain = set(spelled.values())
    for yes, no in YES_NO:
        if plain <= {yes, no} and yes in plain:
            return {word: "fraud" if spelling == yes else "genuine" for word, spelling in spelled.items()}
    meaning = {}
    for word, spelling in spelled.items():
        if spelling in GENUINE:
            meaning[word] = "genuine"
        elif spelling in FRAUD or (_FRAUD_VALUE.fullmatch(spelling) and not _NO_FRAUD.search(spelling)):
            meaning[word] = "fraud"
    return meaning if "fraud" in meaning.values() else None


def _is_dispute(column: ColumnProfile) -> bool:
    """Whether the column says which payments were disputed."""
    reasons = any(ReasonCodes(DEFAULTS).is_fraud(value) for value in column.distinct)
    return names.fits(column.name, names.DISPUTE) and (column.binary or reasons or bool(_meanings(column)))


def _frauds_by_value(column: ColumnProfile) -> list[str]:
    """The values that name a fraud, of a column with so few that they may be labels; a chargeback may also be a kind of row."""
    if not 0 < len(column.distinct) <= LABEL_VALUES_MAX:
        return []
    frauds = [word for word, kind in (_meanings(column) or {}).items() if kind == "fraud"]
    frauds = [word for word in frauds if len(word) > 1 and names.normalised(word) not in YES_WORDS]
    if _KIND_NAME.search(names.normalised(column.name)):
        frauds = [word for word in frauds if not re.search("charge.?back", word)]
    return frauds


def _holds_labels(column: ColumnProfile) -> bool:
    """Whether few values say what was fraud and what was not, or some rows say fraud and the others nothing."""
    frauds = _frauds_by_value(column)
    if not frauds or frauds == ["bad"]:
        return False
    if _says_only_fraud(column):
        return not names.known_later(column.name)
    return "genuine" in _meanings_of_all(column).values()


def _may_hold_labels(column: ColumnProfile) -> bool:
    """Whether few values name a fraud in a column that is not the one of labels."""
    return bool(_frauds_by_value(column)) and not names.known_later(column.name)


def _says_only_fraud(column: ColumnProfile) -> bool:
    """Whether few rows have a value, which is fraud or something else that was wrong."""
    if column.present > RARE * len(column.codes):
        return False
    if names.fits(column.name, names.DISPUTE):
        return not column.binary
    return not names.fits(column.name, names.LABEL) and "genuine" not in (_meanings(column) or {}).values()


def _meanings_of_all(column: ColumnProfile) -> dict[str, str]:
    """What the words of a column of labels mean; beside fraud, a single other word or one for a payment that happened is genuine."""
    words = _meanings(column) or {}
    others = [value.lower() for value in column.distinct if value.lower() not in words]
    sure = [word for word in others if not _UNSURE.search(word)]
    for word in sure:
        if len(column.distinct) == 2 or PAID.search(names.normalised(word)):
            words[word] = "genuine"
    return words


def _decide_words(draft: SchemaDraft, column: ColumnProfile) -> None:
    """Take a column of yes and no, and write its words down where the defaults lack them."""
    words = {} if column.binary else _meanings_of_all(column)
    if words:
        _write_words(draft, column, words)
    if names.fits(column.name, names.DISPUTE):
        reason = f"{CHECK}disputed counts as fraud"
    elif names.fits(column.name, names.LABEL):
        reason = "a yes or no named like a label"
    else:
        reason = f"{CHECK}its values say what was fraud"
    draft.take("is_fraud", column, reason)
    share = float(is_fraud(draft).mean())
    draft.reasons["is_fraud"][-1] += f", yes in {percent(share)} of the rows"
    if share > 0.5:
        draft.note("is_fraud", CHECK + "more than half are fraud: check that 1 means fraud")


def _decide_only_fraud(draft: SchemaDraft, column: ColumnProfile) -> None:
    """Take a column such as one of reasons of disputes: `fraudulent` among them is fraud, and an empty value no label."""
    words = [word for word, kind in (_meanings(column) or {}).items() if kind == "fraud"]
    share = f"{percent(column.present / draft.rows)} of the rows"
    if names.fits(column.name, names.DISPUTE):
        write_reasons(draft, {value.lower() for value in column.distinct}, words)
        kind = "reasons of disputes"
    else:
        _write_words(draft, column, dict.fromkeys(words, "fraud"))
        kind = "its values say what was fraud,"
    draft.take("is_fraud", column, f"{CHECK}{kind} in {share}; without one there is no label")


def write_reasons(draft: SchemaDraft, reasons: set[str], frauds: Collection[str] = ()) -> None:
    """Write down which of the reasons of disputes are fraud where the defaults do not know it, and which nobody knows."""
    codes = ReasonCodes(DEFAULTS)
    unknown = sorted(r for r in reasons if not codes.is_fraud(r) and codes.type_of(r) is None)
    added = [reason for reason in unknown if reason in frauds or _names_fraud(reason)]
    others = [reason for reason in unknown if reason not in added]
    if added:
        listed = [*DEFAULTS.fraud_reasons, *added]
        draft.decide("labels.fraud_reasons", listed, f"{CHECK}{_listed(added)} taken for fraud")
    if others:
        types = {**DEFAULTS.dispute_types, OTHER: others}
        reason = f"{CHECK}{_listed(others)} taken for disputes about something else; move what is fraud to fraud_reasons"
        draft.decide("labels.dispute_types", types, reason)


def _names_fraud(reason: str) -> bool:
    plain = names.normalised(reason)
    return re.search(r"fraud|no_cardholder_authori|betrug|frode", plain) is not None and not _NO_FRAUD.search(
        plain
    )


def _listed(reasons: Sequence[str]) -> str:
    return f"{', '.join(quoted(reason) for reason in reasons[:REASONS_MAX])} {'is' if len(reasons) == 1 else 'are'}"


def _write_words(draft: SchemaDraft, column: ColumnProfile, meanings: dict[str, str]) -> None:
    """Write the words that differ from the defaults; all others are no labels."""
    by_kind = {
        kind: sorted(word for word in meanings if meanings[word] == kind) for kind in ("fraud", "genuine")
    }
    others = sorted({value.lower() for value in column.distinct} - set(meanings))
    fraud_is_default = set(by_kind["fraud"]) <= set(DEFAULTS.fraud_words)
    genuine_is_default = set(by_kind["genuine"]) <= set(DEFAULTS.genuine_words)
    if not fraud_is_default or not genuine_is_default:
        # both, because a word of the defaults may mean the other thing here
        draft.decide("labels.fraud_words", by_kind["fraud"], f"the words of {quoted(column.name)} for fraud")
        genuine = by_kind["genuine"] or [w for w in DEFAULTS.genuine_words if w not in by_kind["fraud"]]
        draft.decide("labels.genuine_words", genuine, "and those for genuine")
    if others:
        draft.decide(
            "labels.unlabelled_words", others, CHECK + "words that are taken for neither fraud nor genuine"
        )


def _find_known_at(draft: SchemaDraft, label: ColumnProfile) -> None:
    """Find the time at which the labels became known: a date that is hardly there without a label of fraud."""
    fraud = is_fraud(draft)
    times = []
    for column in list(draft.unassigned.values()):
        if not names.fits(column.name, names.KNOWN_AT) or column is draft.event_time:
            continue
        if draft.event_time is not None and column.number:
            column = replace(column, form=draft.event_time.form)  # noqa: PLW2901 (it counts from the same moment)
        if len(column.instants):
            there = column.codes >= 0
            if (there & (label.codes >= 0)).any() and there[fraud].mean() >= 0.5:
                times.append(column)
    known_at = names.first_named(times, names.KNOWN_AT)
    if known_at is not None:
        draft.known_at = known_at
        draft.take(
            "known_at",
            known_at,
            f"when the labels became known, by its name; in {percent(known_at.present / draft.rows)} of the rows",
        )


def leave_out_known_later(draft: SchemaDraft) -> None:
    """Leave out what is known only after the payment, by its name."""
    for column in list(draft.unassigned.values()):
        if names.known_later(column.name):
            draft.leave_out(
                column, f"{CHECK}by its name it is known only after the payment, so it may leak the label"
            )


def leave_out_leaks(draft: SchemaDraft) -> None:
    """Leave out columns that tell the label because they were filled in after it."""
    if draft.fraud is None:
        return
    fraud = is_fraud(draft)
    for column in list(draft.unassigned.values()):
        reason = _leak(column, fraud, quoted(draft.fraud.name))
        if reason:
            draft.leave_out(column, f"{CHECK}probably a leak of the label: {reason}")


def _leak(column: ColumnProfile, fraud: Bools, label: str) -> str:
    """What gives a label away; "" if nothing does."""
    places = column.codes + 1  # 0: missing
    all_rows = np.bincount(places, minlength=len(column.distinct) + 1)
    frauds = np.bincount(places[fraud], minlength=len(all_rows))
    genuine = all_rows - frauds
    usual = int(genuine.argmax())
    if not fraud.any() or not genuine[usual]:
        return ""
    others, other_frauds = len(fraud) - all_rows[usual], fraud.sum() - frauds[usual]
    if _tells(other_frauds, others, fraud):
        if usual == 0:
            return f"(nearly) only filled where {label} is yes"
        return f"constant where {label} is no, mostly different where it is yes"
    if _tells(frauds[0], all_rows[0], fraud):
        return f"(nearly) only empty where {label} is yes"
    if len(all_rows) <= LEAK_VALUES_MAX:
        telling = (all_rows >= LEAK_ROWS_MIN) & (frauds >= 0.95 * all_rows)
        if frauds[telling].sum() >= 0.5 * fraud.sum():
            return f"some of its values occur (nearly) only where {label} is yes"
    return ""


def _tells(frauds: int, rows: int, fraud: Bools) -> bool:
    """Whether so many frauds among some rows are no accident: most of these rows, and a part of all frauds."""
    share = max(TELLING, 1 - (1 - fraud.mean()) / 2)  # also where most rows are fraud
    return bool(rows >= LEAK_ROWS_MIN and frauds >= share * rows and frauds >= COVERED * fraud.sum())

"""
Finds the roles of the columns of a file of labels or disputes, and how late its frauds were reported.

Exports of disputes have a reason and a status instead of a label: Stripe's `Charge ID`, `Reason`, `Status`, `Dispute Created (UTC)`;
Adyen's `Psp Reference`, `CB Reason Code`, `Record Type`, `Record Date`.
"""

from collections.abc import Sequence

import numpy as np

from pipeline.config.sections import LabelsSection
from pipeline.ingest.checks.disputes import DisputeRows, dispute_meaning, stage_of
from pipeline.ingest.formats.arrow_arrays import as_objects
from pipeline.schema_inference import names
from pipeline.schema_inference.column_profile import ColumnProfile
from pipeline.schema_inference.draft import CHECK, UNANSWERED, ReportDelays, SchemaDraft, quoted
from pipeline.schema_inference.labels import labels_section, write_reasons
from pipeline.schema_inference.sample import FileSample
from storage.frames import Strings

REASON = (
    r"((dispute|chargeback|cb|case)_)?reason_?code",
    r"((dispute|chargeback|cb|case)_)?(reason|grund|motif|motivo|reden)",
    r"(?!rfi|nof).*reason.*",
)
STAGE = (
    r"((dispute|chargeback|cb|case)_)?stage|record_?type",
    r"((dispute|chargeback|cb|case)_)?(status|state|outcome|result|phase|event|event_?type|type)",
)
AMOUNT = (r"(dispute|disputed|chargeback|cb|case)_amount", *names.AMOUNT)
SOURCE = (r"((label|report)_)?source", r"reported_by|report_type")
REASONS_DISTINCT_MAX = 100  # different reasons; more are free text
STAGES_KNOWN = 0.5  # share of the rows whose word for the stage is known
OVERLAP = 0.05  # share of the ids of a column that are ids of payments; of a long file only a part is known
ROLES = ("transaction_id", "is_fraud", "known_at", "source", "reason", "stage", "amount")


def infer_label_file(draft: SchemaDraft, sample: FileSample) -> None:
    """Decide the keys of [labels] that name columns of the file, and keep the delays of its frauds for the maturity."""
    form = {
        key.partition(".")[2]: value
        for key, value in draft.keys.items()
        if key.startswith("format.") and value != UNANSWERED
    }
    draft_form = sample.form.model_copy(update=form)
    columns = [ColumnProfile(c.name, c.column, c.now, draft_form) for c in sample.columns]
    roles = dict[str, ColumnProfile]()
    for role, find in (
        ("transaction_id", _find_id),
        ("known_at", _find_known_at),
        ("is_fraud", _find_label),
        ("reason", _find_reason),
        ("stage", _find_stage),
        ("source", _find_source),
        ("amount", _find_amount),
    ):
        column = find(draft, [c for c in columns if c not in roles.values()])
        if column is not None:
            roles[role] = column
    for role in ROLES:
        _write_role(draft, role, roles.get(role), [c.name for c in columns])
    if "reason" in roles:
        write_reasons(draft, {value.lower() for value in roles["reason"].distinct})
    draft.reports = draft.reports or _reports(draft, roles, len(columns[0].codes))


def _write_role(draft: SchemaDraft, role: str, column: ColumnProfile | None, present: Sequence[str]) -> None:
    """Write a key where its default does not name the column; "" where a column of that name has another meaning."""
    default = str(getattr(LabelsSection(), role))
    if column is not None:
        if column.name != default:
            draft.decide(f"labels.{role}", column.name, _REASONS[role])
    elif role == "transaction_id":
        draft.note(f"labels.{role}", f"{CHECK}no column of the file of labels holds ids of payments: name it")
        draft.keys[f"labels.{role}"] = default
    elif role == "known_at":
        draft.keys[f"labels.{role}"] = default
        draft.note(
            f"labels.{role}",
            f"{CHECK}no column of the file of labels holds times as [format] reads them: name it, or pass --known-after",
        )
    elif role != "is_fraud" and default in present:
        draft.decide(
            f"labels.{role}", "", f"{CHECK}{quoted(default)} of the file of labels holds something else"
        )


_REASONS = {
    "transaction_id": "it holds the ids of payments",
    "is_fraud": "yes or no",
    "known_at": "when it was reported",
    "source": "who reported it",
    "reason": "why payments were disputed: labels.fraud_reasons says which reasons are fraud",
    "stage": "how far disputes are",
    "amount": "what is disputed",
}


def _find_id(draft: SchemaDraft, columns: Sequence[ColumnProfile]) -> ColumnProfile | None:
    """The column that shares the most values with the ids of payments; else one with the name of such ids."""
    ids = set(draft.transaction.distinct) if draft.transaction else set[str]()
    shared = [len(ids.intersection(c.distinct)) / max(1, len(c.distinct)) for c in columns]
    best = int(np.argmax(shared))
    if shared[best] >= OVERLAP:
        return columns[best]
    by_name = draft.transaction and next((c for c in columns if c.name == draft.transaction.name), None)
    return by_name or names.first_named(columns, names.ID)


def _find_known_at(_draft: SchemaDraft, columns: Sequence[ColumnProfile]) -> ColumnProfile | None:
    times = [
        c for c in columns if len(c.instants) and not names.NOT_EVENT_TIME.search(names.normalised(c.name))
    ]
    return names.first_named(times, (*names.KNOWN_AT, *names.EVENT_TIME)) or next(iter(times), None)


def _find_label(_draft: SchemaDraft, columns: Sequence[ColumnProfile]) -> ColumnProfile | None:
    return names.first_named([c for c in columns if c.binary], names.LABEL)


def _find_reason(_draft: SchemaDraft, columns: Sequence[ColumnProfile]) -> ColumnProfile | None:
    return names.first_named([c for c in columns if 0 < len(c.distinct) <= REASONS_DISTINCT_MAX], REASON)


def _find_stage(draft: SchemaDraft, columns: Sequence[ColumnProfile]) -> ColumnProfile | None:
    """A column of words for stages; those that are unknown are named."""
    column = names.first_named([c for c in columns if _known_stages(c) >= STAGES_KNOWN], STAGE)
    unknown = [] if column is None else [word for word in column.distinct if stage_of(word) is None]
    if unknown:
        listed = ", ".join(map(quoted, unknown))
        draft.note(
            "labels.stage",
            f"{CHECK}rows with {listed} will be set aside: write inquiry, dispute, won or lost",
        )
    return column


def _known_stages(column: ColumnProfile) -> float:
    """The share of rows with a known word for a stage."""
    known = np.array([stage_of(word) is not None for word in column.distinct], dtype=bool)
    return float(column.counts[known].sum() / max(1, column.present))


def _find_source(_draft: SchemaDraft, columns: Sequence[ColumnProfile]) -> ColumnProfile | None:
    return names.first_named([c for c in columns if 0 < len(c.distinct) <= REASONS_DISTINCT_MAX], SOURCE)


def _find_amount(draft: SchemaDraft, columns: Sequence[ColumnProfile]) -> ColumnProfile | None:
    """A column of money, if all of it is in the base currency."""
    currency = names.first_named(columns, names.CURRENCY)
    base = str(draft.keys.get("base_currency", "EUR"))
    if currency is not None and {code.upper() for code in currency.distinct} != {base}:
        return None
    amounts = [c for c in columns if c.money and not (c.numbers < 0).any()]
    return names.first_named(
        [c for c in amounts if not names.NOT_AMOUNT.search(names.normalised(c.name))], AMOUNT
    )


def _reports(draft: SchemaDraft, roles: dict[str, ColumnProfile], size: int) -> ReportDelays | None:
    """When the frauds among the payments of the sample were reported; None if that is not known of any."""
    known_at, payments, times = roles.get("known_at"), draft.transaction, draft.event_time
    if known_at is None or payments is None or times is None or "transaction_id" not in roles:
        return None
    place_of = {name: place for place, name in enumerate(as_objects(payments.text).tolist())}
    first = dict[int, float]()
    fraud = dispute_meaning(_dispute_rows(roles, size), labels_section(draft)).is_fraud
    rows = zip(
        as_objects(roles["transaction_id"].text).tolist(), known_at.moments.tolist(), fraud, strict=True
    )
    for name, moment, is_fraud in rows:
        place = place_of.get(name)
        if is_fraud and place is not None and np.isfinite(moment - times.moments[place]):
            first[place] = min(moment, first.get(place, moment))
    if not first:
        return None
    places = np.array(sorted(first), dtype=np.int64)
    end = float(max(np.nanmax(times.moments), np.nanmax(known_at.moments)))
    return ReportDelays.of(places, times.moments[places], np.array([first[p] for p in places.tolist()]), end)


def _dispute_rows(roles: dict[str, ColumnProfile], size: int) -> DisputeRows:
    def texts(role: str) -> Strings:
        return as_objects(roles[role].text) if role in roles else np.full(size, None, dtype=object)

    stated, section = texts("is_fraud"), LabelsSection()
    meanings = {word: word.lower() in section.fraud_words for word in set(stated.tolist()) - {None}}
    is_fraud = np.array([meanings.get(word) for word in stated], dtype=object)
    return DisputeRows(is_fraud, texts("reason"), texts("stage"), texts("source"))

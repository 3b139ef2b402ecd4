"""Choices, models and promotions: append-only, a rollback is one more promotion."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from sqlalchemy import Connection, delete, func, insert, select

from storage.database.database import Store
from storage.database.tables import choices, models, promotion_checks, promotions, readiness
from storage.errors import Damaged, Unknown
from storage.review.verdicts import write_audit
from storage.runs.ledger import Entry, done, write


@dataclass(frozen=True)
class ModelRecord:
    """What is known of a model besides its bytes; instants in µs."""

    choice_id: int
    run_id: int
    trained_at: int
    strategy: str
    span_start: int
    span_end: int
    n_mature: int
    n_fraud: int
    feature_names: list[str]
    fields: Mapping[str, Any]
    thresholds: Mapping[str, float]
    config_hash: str
    versions: Mapping[str, str] = field(default_factory=dict)
    sample_scores: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Promotion:
    """From when on a model scores for a policy."""

    seq: int
    effective_from: int
    model_id: int


@dataclass(frozen=True)
class Check:
    """
    Whether a new model is promoted, and what it was worth against the one in force; instants in µs.

    `sentence` may name the new model as `{model_id}`, which it gets when it is stored.
    """

    verdict: Literal["promoted", "refused"]
    rule: str
    sentence: str
    against: int | None = None
    window_start: int | None = None
    window_end: int | None = None
    transactions: int | None = None
    frauds: int | None = None
    effective_frauds: float | None = None
    ap: float | None = None
    ap_in_force: float | None = None
    ap_difference: float | None = None
    ap_lower: float | None = None
    ap_upper: float | None = None
    cost: float | None = None
    cost_in_force: float | None = None
    cost_difference: float | None = None
    cost_lower: float | None = None
    cost_upper: float | None = None


def save_choice(store: Store, choice: Mapping[str, Any]) -> int:
    """Keep a choice with its numbers; returns its id."""
    with store.write() as connection:
        made = connection.execute(insert(choices), dict(choice))
    assert made.inserted_primary_key is not None
    return int(made.inserted_primary_key[0])


def choice_of(store: Store, policy: str, date: int) -> dict[str, Any] | None:
    """The newest choice of a training date."""
    mine = (choices.c.policy == policy) & (choices.c.training_date == date)
    rows = select(choices).where(mine).order_by(choices.c.choice_id.desc()).limit(1)
    with store.read() as connection:
        row = connection.execute(rows).mappings().one_or_none()
    return None if row is None else dict(row)


def newest_choice_date(store: Store, policy: str) -> int | None:
    """The newest training date that has a choice."""
    with store.read() as connection:
        found: int | None = connection.scalar(
            select(func.max(choices.c.training_date)).where(choices.c.policy == policy)
        )
    return found


def install(
    store: Store,
    entry: Entry,
    record: ModelRecord,
    artefact: bytes,
    reason: str,
    by: str,
    now: int,
    check: Check | None = None,
) -> int:
    """
    Keep a model, promote it from its entry's date on unless its check refuses, and finish the entry, in one transaction.

    Returns
    -------
    The model's id.
    """
    row = asdict(record) | {"artefact": artefact, "sha256": hashlib.sha256(artefact).hexdigest()}
    refused = check is not None and check.verdict == "refused"
    with store.exclusive() as connection:
        made = connection.execute(insert(models), row)
        assert made.inserted_primary_key is not None
        model_id = int(made.inserted_primary_key[0])
        if check is not None:
            of_model = {"policy": entry.policy, "model_id": model_id, "training_date": entry.window_end}
            said = {"sentence": check.sentence.format(model_id=model_id), "run_id": record.run_id}
            connection.execute(insert(promotion_checks), asdict(check) | of_model | said)
        if not refused:
            _promote(connection, entry.policy, entry.window_end, model_id, reason, by, now)
        counts = {"model_id": model_id, "choice_id": record.choice_id} | ({"refused": 1} if refused else {})
        write(connection, done(entry, counts, now))
    return model_id


def learned_until(store: Store, model_id: int) -> int | None:
    """The event time of the newest transaction whose label a model was fitted on; None if it was fitted on none."""
    chosen = select(models.c.span_end).where(models.c.model_id == model_id, models.c.n_mature > 0)
    with store.read() as connection:
        found: int | None = connection.scalar(chosen)
    return found


def save_findings(
    store: Store, policy: str, date: int, run_id: int, findings: Sequence[Mapping[str, Any]]
) -> None:
    """Keep what was found before a training, in place of what an earlier try of the same date found."""
    mine = (readiness.c.policy == policy) & (readiness.c.training_date == date)
    rows = [
        {"policy": policy, "training_date": date, "place": place, "run_id": run_id, **one}
        for place, one in enumerate(findings)
    ]
    with store.write() as connection:
        connection.execute(delete(readiness).where(mine))
        if rows:
            connection.execute(insert(readiness), rows)


def load_artefact(store: Store, model_id: int) -> bytes:
    """
    A model's bytes.

    Raises
    ------
    Unknown
        There is no such model.
    Damaged
        They are not the bytes that were stored.
    """
    chosen = select(models.c.artefact, models.c.sha256).where(models.c.model_id == model_id)
    with store.read() as connection:
        row = connection.execute(chosen).one_or_none()
    if row is None:
        raise Unknown(f"there is no model {model_id}: see fraudwatch models")
    if hashlib.sha256(row.artefact).hexdigest() != row.sha256:
        raise Damaged(f"model {model_id} is not the one that was stored: train anew with fraudwatch train")
    return bytes(row.artefact)


def promote(
    store: Store, policy: str, effective_from: int, model_id: int, reason: str, by: str, now: int
) -> int:
    """Let a model score transactions from `effective_from` on, by hand; returns the promotion's number."""
    with store.exclusive() as connection:
        seq = _promote(connection, policy, effective_from, model_id, reason, by, now)
        after = {"policy": policy, "seq": seq, "effective_from": effective_from, "reason": reason}
        write_audit(connection, by, "promote", f"model {model_id}", None, after, now)
        return seq


def _promote(
    connection: Connection,
    policy: str,
    effective_from: int,
    model_id: int,
    reason: str,
    by: str,
    now: int,
) -> int:
    newest = connection.scalar(select(func.max(promotions.c.seq)).where(promotions.c.policy == policy)) or 0
    row = {
        "policy": policy,
        "seq": newest + 1,
        "effective_from": effective_from,
        "model_id": model_id,
        "reason": reason,
        "by": by,
        "promoted_at": now,
    }
    connection.execute(insert(promotions), row)
    return newest + 1


def fields_in_force(store: Store, policy: str) -> list[Mapping[str, Any]]:
    """The configured columns that the policy's promoted models read, each set once."""
    chosen = select(models.c.fields).join(promotions, promotions.c.model_id == models.c.model_id)
    mine = (promotions.c.policy == policy) & models.c.fields.is_not(None)
    with store.read() as connection:
        found = connection.scalars(chosen.where(mine)).all()
    return list({str(fields): fields for fields in found}.values())


def promoted(store: Store, policy: str) -> list[Promotion]:
    """All promotions of a policy, in the order they were made."""
    p = promotions.c
    rows = select(p.seq, p.effective_from, p.model_id).where(p.policy == policy).order_by(p.seq)
    with store.read() as connection:
        return [Promotion(*row) for row in connection.execute(rows)]


def last_choices(store: Store, policy: str, before: int, limit: int = 10) -> list[dict[str, Any]]:
    """Choices of trainings before an instant, newest training date first, one a date (the newest made)."""
    earlier = (choices.c.policy == policy) & (choices.c.training_date < before)
    rows = select(choices).where(earlier).order_by(choices.c.training_date.desc(), choices.c.choice_id.desc())
    with store.read() as connection:
        found = [dict(row) for row in connection.execute(rows.limit(limit * 3)).mappings()]
    once = {row["training_date"]: row for row in reversed(found)}
    return [once[date] for date in sorted(once, reverse=True)][:limit]

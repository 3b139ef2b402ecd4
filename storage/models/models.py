"""Choices, models, promotion checks and promotions. Rows are only added; a rollback is one more promotion."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from sqlalchemy import Connection, delete, func, insert, select, update

from storage.database.database import Store
from storage.database.tables import choices, models, promotion_checks, promotions, readiness
from storage.errors import Damaged, Unknown
from storage.review.audit_trail import write_audit
from storage.runs.ledger import Entry, done, write

LIVE = "live"  # the policy whose flags people see; challengers only store scores with `flagged`


@dataclass(frozen=True)
class ModelRecord:
    """The row of a model without its artifact; instants in µs."""

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
    """A model scores for a policy from `effective_from` on (µs)."""

    seq: int
    effective_from: int
    model_id: int


@dataclass(frozen=True)
class PromotionCheck:
    """The comparison of a candidate with the champion, and the verdict; instants in µs."""

    verdict: Literal["promoted", "rejected"]
    rule: str
    sentence: str
    champion_id: int | None = None
    window_start: int | None = None
    window_end: int | None = None
    transactions: int | None = None
    frauds: int | None = None
    effective_frauds: float | None = None
    ap: float | None = None
    ap_champion: float | None = None
    ap_difference: float | None = None
    ap_lower: float | None = None
    ap_upper: float | None = None
    cost: float | None = None
    cost_champion: float | None = None
    cost_difference: float | None = None
    cost_lower: float | None = None
    cost_upper: float | None = None


def save_choice(store: Store, choice: Mapping[str, Any]) -> int:
    """Store a choice with its numbers; returns its id."""
    with store.write() as connection:
        inserted = connection.execute(insert(choices), dict(choice))
    assert inserted.inserted_primary_key is not None
    return int(inserted.inserted_primary_key[0])


def choice_of(store: Store, policy: str, date: int) -> dict[str, Any] | None:
    """The newest choice of a training date."""
    mine = (choices.c.policy == policy) & (choices.c.training_date == date)
    rows = select(choices).where(mine).order_by(choices.c.choice_id.desc()).limit(1)
    with store.read() as connection:
        row = connection.execute(rows).mappings().one_or_none()
    return None if row is None else dict(row)


def choice_of_model(store: Store, model_id: int) -> dict[str, Any]:
    """
    The choice that a model was trained by.

    Raises
    ------
    Unknown
        There is no such model.
    """
    rows = select(choices).join(models, models.c.choice_id == choices.c.choice_id)
    with store.read() as connection:
        row = connection.execute(rows.where(models.c.model_id == model_id)).mappings().first()
    if row is None:
        raise Unknown(f"there is no model {model_id}")
    return dict(row)


def install(
    store: Store,
    entry: Entry,
    record: ModelRecord,
    artifact: Callable[[int], bytes],
    reason: str,
    by: str,
    now: int,
    check: PromotionCheck | None = None,
) -> int:
    """
    Store a model, promote it from its entry's date on unless its check rejected it, and finish the entry, in one transaction.

    Parameters
    ----------
    artifact
        The model's bytes, given its id: they are sealed with it.

    Returns
    -------
    The model's id.
    """
    rejected = check is not None and check.verdict == "rejected"
    with store.write_exclusive() as connection:
        inserted = connection.execute(insert(models), asdict(record) | _stored(b""))
        assert inserted.inserted_primary_key is not None
        model_id = int(inserted.inserted_primary_key[0])
        mine = models.c.model_id == model_id
        connection.execute(update(models).where(mine).values(_stored(artifact(model_id))))
        if check is not None:
            of_model = {"policy": entry.policy, "model_id": model_id, "training_date": entry.window_end}
            connection.execute(insert(promotion_checks), asdict(check) | of_model | {"run_id": record.run_id})
        if not rejected:
            _promote(connection, entry.policy, entry.window_end, model_id, reason, by, now)
        counts = {"model_id": model_id, "choice_id": record.choice_id} | ({"rejected": 1} if rejected else {})
        write(connection, done(entry, counts, now))
    return model_id


def _stored(artifact: bytes) -> dict[str, Any]:
    return {"artifact": artifact, "sha256": hashlib.sha256(artifact).hexdigest()}


def learned_until(store: Store, model_id: int) -> tuple[int | None, int]:
    """
    The event time of the newest mature transaction that a model was fitted on, None without any, and its training date.
    """
    columns = (models.c.span_end, models.c.trained_at, models.c.n_mature)
    with store.read() as connection:
        row = connection.execute(select(*columns).where(models.c.model_id == model_id)).one()
    return row.span_end if row.n_mature else None, row.trained_at


def save_findings(
    store: Store, policy: str, date: int, run_id: int, findings: Sequence[Mapping[str, Any]]
) -> None:
    """Store the readiness findings of a training; they replace those of an earlier attempt at the same date."""
    mine = (readiness.c.policy == policy) & (readiness.c.training_date == date)
    rows = [
        {"policy": policy, "training_date": date, "rank": rank, "run_id": run_id, **finding}
        for rank, finding in enumerate(findings)
    ]
    with store.write() as connection:
        connection.execute(delete(readiness).where(mine))
        if rows:
            connection.execute(insert(readiness), rows)


def fields_of_findings(store: Store, policy: str, date: int, code: str) -> set[str]:
    """The fields that the readiness findings of a training with this code name."""
    mine = (readiness.c.policy == policy) & (readiness.c.training_date == date) & (readiness.c.code == code)
    with store.read() as connection:
        return {
            str(numbers["field"]) for numbers in connection.scalars(select(readiness.c.numbers).where(mine))
        }


def load_artifact(store: Store, model_id: int) -> bytes:
    """
    The bytes of a model.

    Raises
    ------
    Unknown
        There is no such model.
    Damaged
        The bytes are not those that were stored.
    """
    chosen = select(models.c.artifact, models.c.sha256).where(models.c.model_id == model_id)
    with store.read() as connection:
        row = connection.execute(chosen).one_or_none()
    if row is None:
        raise Unknown(f"there is no model {model_id}", code="unknown_model")
    if hashlib.sha256(row.artifact).hexdigest() != row.sha256:
        raise Damaged(
            f"model {model_id} is not the one that was stored", remedy="train anew", code="damaged_model"
        )
    return bytes(row.artifact)


def promote(
    store: Store, policy: str, effective_from: int, model_id: int, reason: str, by: str, now: int
) -> int:
    """Promote a model by hand: it scores transactions from `effective_from` on; returns the promotion's number."""
    with store.write_exclusive() as connection:
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
    """The configured columns that the policy's promoted models read, without repetition."""
    chosen = select(models.c.fields).join(promotions, promotions.c.model_id == models.c.model_id)
    mine = (promotions.c.policy == policy) & models.c.fields.is_not(None)
    with store.read() as connection:
        result = connection.scalars(chosen.where(mine)).all()
    return list({str(fields): fields for fields in result}.values())


def promoted(store: Store, policy: str) -> list[Promotion]:
    """All promotions of a policy, oldest first."""
    p = promotions.c
    rows = select(p.seq, p.effective_from, p.model_id).where(p.policy == policy).order_by(p.seq)
    with store.read() as connection:
        return [Promotion(*row) for row in connection.execute(rows)]


def choices_between(store: Store, policy: str, start: int, end: int) -> list[dict[str, Any]]:
    """Choices of trainings with start ≤ date < end, oldest first; the newest choice of each date."""
    inside = (choices.c.training_date >= start) & (choices.c.training_date < end)
    rows = select(choices).where((choices.c.policy == policy) & inside)
    with store.read() as connection:
        found = connection.execute(rows.order_by(choices.c.training_date, choices.c.choice_id)).mappings()
        return list({row["training_date"]: dict(row) for row in found}.values())

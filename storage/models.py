"""Choices, models and promotions: append-only, a rollback is one more promotion."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import func, insert, select

from storage.errors import Damaged, Unknown
from storage.schema import choices, models, promotions
from storage.store import Store


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


def save_choice(store: Store, choice: Mapping[str, Any]) -> int:
    """Keep a choice with its numbers; returns its id."""
    with store.write() as connection:
        made = connection.execute(insert(choices), dict(choice))
    assert made.inserted_primary_key is not None
    return int(made.inserted_primary_key[0])


def save_model(store: Store, record: ModelRecord, artefact: bytes) -> int:
    """Keep a model; returns its id."""
    row = asdict(record) | {"artefact": artefact, "sha256": hashlib.sha256(artefact).hexdigest()}
    with store.write() as connection:
        made = connection.execute(insert(models), row)
    assert made.inserted_primary_key is not None
    return int(made.inserted_primary_key[0])


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
    """Let a model score transactions from `effective_from` on; returns the promotion's number."""
    with store.exclusive() as connection:
        newest = connection.scalar(select(func.max(promotions.c.seq)).where(promotions.c.policy == policy))
        row = {
            "policy": policy,
            "seq": (newest or 0) + 1,
            "effective_from": effective_from,
            "model_id": model_id,
            "reason": reason,
            "by": by,
            "promoted_at": now,
        }
        connection.execute(insert(promotions), row)
    return (newest or 0) + 1


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

"""Model operations by hand: show a model card, promote a model, roll back."""

from collections.abc import Iterator
from typing import Any

from detectors.base import DetectorError
from detectors.model.artifact import changed_libraries, libraries
from detectors.model.model import Model
from pipeline.config.config import Config
from pipeline.errors import InputError
from pipeline.rendering.text import thresholds_text
from pipeline.scoring.model_cache import ModelCache
from storage.database.column_types import as_datetime
from storage.database.database import Store
from storage.models import models
from storage.queries.models import model_row


def model_card(store: Store, config: Config, policy: str, model_id: int) -> Iterator[str]:
    """
    The model card, line by line; the last line says whether the model loads.

    Raises
    ------
    Unknown
        There is no such model.
    """
    row = model_row(store, policy, model_id)
    lines = (
        ("model", f"{model_id}, {row['strategy']}, trained as of {row['trained_at']} by run {row['run_id']}"),
        ("choice", row["sentence"]),
        ("rows", f"{row['n_mature']:,} mature transactions, {row['n_fraud']:,} of them fraud"),
        ("span", f"{row['span_start']} to {row['span_end']}"),
        ("thresholds", thresholds_text(row["thresholds"])),
        ("features", f"{len(row['feature_names'])}: {', '.join(row['feature_names'])}"),
        ("libraries", ", ".join(f"{name} {number}" for name, number in (row["versions"] or {}).items())),
        ("config", f"hash {str(row['config_hash'])[:16]}"),
        ("artifact", f"{row['bytes']:,} bytes, sha256 {row['sha256'][:16]}…"),
        *(("gate", f"{check['verdict']}, {check['rule']}: {check['sentence']}") for check in row["checks"]),
        *(("promoted", _promotion_text(promotion)) for promotion in row["promotions"]),
        ("loads", _load_check(store, config, model_id, row["versions"] or {})),
    )
    for name, text in lines:
        if text:
            yield f"{name + ':':12}{text}"


def promote(
    store: Store, config: Config, policy: str, model_id: int, begin: int, reason: str, actor: str, now: int
) -> str:
    """
    Promote a model to champion from `begin` on; it must load.

    Raises
    ------
    InputError
        `begin` is in the past: earlier transactions keep the model that was in force at their time.
    Unknown, Damaged, ArtifactError
        There is no such model, or it does not load here.
    """
    if begin < now:
        raise InputError(
            f"a promotion takes effect now or later, got {as_datetime(begin)}: earlier transactions keep the "
            "model that was in force at their time; fraudwatch backfill --rescore --model scores the past with another"
        )
    _load(store, config, model_id)
    seq = models.promote(store, policy, begin, model_id, reason, actor, now)
    return (
        f"model {model_id} scores transactions from {as_datetime(begin):%Y-%m-%d %H:%M:%S} UTC on "
        f"(promotion {seq}), until a training promotes the next one"
    )


def rollback(store: Store, config: Config, policy: str, reason: str, actor: str, now: int) -> str:
    """
    Promote the previous champion again.

    Raises
    ------
    InputError
        There is no previous champion.
    """
    in_force = ModelCache(store, config, policy).in_force_until(now)
    previous = [model_id for model_id in in_force if model_id != in_force[-1]]
    if not previous:
        state = f"model {in_force[-1]} is the first" if in_force else "no model is in force"
        raise InputError(f"there is nothing to roll back to: {state}; see fraudwatch models")
    return promote(store, config, policy, previous[-1], now, reason, actor, now)


def _promotion_text(row: dict[str, Any]) -> str:
    return f"from {row['effective_from']} on, by {row['by']} at {row['promoted_at']}: {row['reason']}"


def _load(store: Store, config: Config, model_id: int) -> Model:
    return Model.from_bytes(models.load_artifact(store, model_id), config.model_key())


def _load_check(store: Store, config: Config, model_id: int, trained_with: dict[str, str]) -> str:
    try:
        _load(store, config, model_id)
    except DetectorError as error:
        return f"NO: {error}"
    changed = changed_libraries(trained_with or libraries())
    return "yes, its sample rows have the same scores" + (f", under {', '.join(changed)}" if changed else "")

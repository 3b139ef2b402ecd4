"""What a person may do with models: read their cards, promote one, roll back."""

from collections.abc import Iterator
from typing import Any

from detectors.base import DetectorError
from detectors.model.artifact import changed_libraries, libraries
from detectors.model.model import Model
from pipeline.config.config import Config
from pipeline.errors import InputError
from pipeline.rendering.text import thresholds_in_words
from pipeline.scoring.model_cache import Shelf
from storage.database.column_types import as_datetime
from storage.database.database import Store
from storage.models import models
from storage.queries import listings


def card(store: Store, config: Config, policy: str, model_id: int) -> Iterator[str]:
    """
    A model's card, line by line; the last line says whether it loads.

    Raises
    ------
    Unknown
        There is no such model.
    """
    row = listings.model(store, policy, model_id)
    shown = (
        ("model", f"{model_id}, {row['strategy']}, trained as of {row['trained_at']} by run {row['run_id']}"),
        ("choice", row["sentence"]),
        ("rows", f"{row['n_mature']:,} mature transactions, {row['n_fraud']:,} of them fraud"),
        ("span", f"{row['span_start']} to {row['span_end']}"),
        ("thresholds", thresholds_in_words(row["thresholds"])),
        ("features", f"{len(row['feature_names'])}: {', '.join(row['feature_names'])}"),
        ("libraries", ", ".join(f"{name} {number}" for name, number in (row["versions"] or {}).items())),
        ("config", f"hash {str(row['config_hash'])[:16]}"),
        ("artefact", f"{row['bytes']:,} bytes, sha256 {row['sha256'][:16]}…"),
        *(("gate", f"{one['verdict']}, {one['rule']}: {one['sentence']}") for one in row["checks"]),
        *(("promoted", _promotion(one)) for one in row["promotions"]),
        ("loads", _loads(store, config, model_id, row["versions"] or {})),
    )
    for name, told in shown:
        if told:
            yield f"{name + ':':12}{told}"


def promote(
    store: Store, config: Config, policy: str, model_id: int, begin: int, reason: str, actor: str, now: int
) -> str:
    """
    Let a model that loads score from `begin` on.

    Raises
    ------
    InputError
        `begin` lies in the past: what is scored, or due, keeps the model of its time.
    Unknown, Damaged, ArtefactError
        There is no such model, or it does not load here.
    """
    if begin < now:
        raise InputError(
            f"a promotion takes effect now or later, got {as_datetime(begin)}: transactions before now keep the "
            "model of their time; fraudwatch backfill --rescore --model judges the past"
        )
    _load(store, config, model_id)
    seq = models.promote(store, policy, begin, model_id, reason, actor, now)
    return (
        f"model {model_id} scores transactions from {as_datetime(begin):%Y-%m-%d %H:%M:%S} UTC on "
        f"(promotion {seq}), until a training promotes the next one"
    )


def rollback(store: Store, config: Config, policy: str, reason: str, actor: str, now: int) -> str:
    """
    Promote the model that was in force before the present one.

    Raises
    ------
    InputError
        There is no model before the present one.
    """
    in_force = Shelf(store, config, policy).in_force_until(now)
    before = [one for one in in_force if one != in_force[-1]]
    if not before:
        have = f"model {in_force[-1]} is the first" if in_force else "no model is in force"
        raise InputError(f"there is nothing to roll back to: {have}; see fraudwatch models")
    return promote(store, config, policy, before[-1], now, reason, actor, now)


def _promotion(row: dict[str, Any]) -> str:
    return f"from {row['effective_from']} on, by {row['by']} at {row['promoted_at']}: {row['reason']}"


def _load(store: Store, config: Config, model_id: int) -> Model:
    return Model.from_bytes(models.load_artefact(store, model_id), config.model_key())


def _loads(store: Store, config: Config, model_id: int, trained_with: dict[str, str]) -> str:
    try:
        _load(store, config, model_id)
    except DetectorError as error:
        return f"NO: {error}"
    moved = changed_libraries({"libraries": trained_with or libraries()})
    return "yes, its sample rows score as they did" + (f", under {', '.join(moved)}" if moved else "")

"""Scores → flags with the reasons a reviewer reads."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors.model.model import AUDIT, RULE, Model, Scores
from pipeline.config.config import Config
from pipeline.features.compute import Feature, Plan
from pipeline.scoring.reasons import Case, in_words
from storage.frames import Transactions
from storage.runs.scores import Flag

Floats = NDArray[np.float64]
BY_CHANCE = (
    {
        "code": "AUDIT_SAMPLE", "feature": None, "value": None, "usual": None, "share": 0.0,
        "text": "drawn at random, to see what flags miss",
    },
)  # fmt: skip
REASONS_MIN = 3  # fewer leave a reviewer with nothing to compare


@dataclass(frozen=True)
class Flagged:
    """The rows of a window that were flagged, with what reasons are made of."""

    rows: Transactions
    raw: Floats
    values: Floats  # final features
    channel: NDArray[np.object_]


def flags_of(
    model: Model,
    model_id: int,
    features: Plan,
    raw: Floats,
    rows: Transactions,
    scores: Scores,
    config: Config,
    ruled: Mapping[int, Mapping[str, Any]] | None = None,
) -> list[Flag]:
    """
    A flag for every flagged row, with the features that moved its score most.

    Parameters
    ----------
    ruled
        What a rule says of the row at a place, for rows on its channel.
    """
    chosen = np.flatnonzero(scores.flagged)
    if not len(chosen):
        return []
    raw_chosen = np.ascontiguousarray(raw[chosen])
    flagged = Flagged(
        rows.take(chosen), raw_chosen, model.detector.encode(raw_chosen), scores.channel[chosen]
    )
    contributions = _contributions(model, flagged)
    return [
        Flag(
            transaction_id=str(flagged.rows.transaction_id[place]),
            model_id=model_id,
            channel=str(flagged.channel[place]),
            reasons=json.dumps(
                [
                    *(BY_CHANCE if flagged.channel[place] == AUDIT else ()),
                    *([(ruled or {})[int(chosen[place])]] if flagged.channel[place] == RULE else ()),
                    *_reasons(flagged, place, contributions[place], features, config),
                ],
                ensure_ascii=False,
            ),
        )
        for place in range(len(chosen))
    ]


def _contributions(model: Model, flagged: Flagged) -> Floats:
    contributions = np.zeros_like(flagged.values)
    for channel in np.unique(flagged.channel.astype(str)):
        mine = np.flatnonzero(flagged.channel == channel)
        contributions[mine] = model.detector.explain(np.ascontiguousarray(flagged.raw[mine]), channel)
    return contributions


def _reasons(
    flagged: Flagged, place: int, contributions: Floats, features: Plan, config: Config
) -> Iterator[Mapping[str, Any]]:
    """
    The three to `alerts.reasons` features that pushed the score up most.

    One reason a code and entity: four windows of one fact are one fact, told by the strongest.
    """
    told: set[tuple[str, str | None]] = set()
    total = float(np.abs(contributions).sum()) or 1.0
    for column in np.argsort(-contributions, kind="stable"):
        feature = features.features[column]
        share = float(contributions[column]) / total
        if len(told) >= config.alerts.reasons or (share <= 0.0 and len(told) >= REASONS_MIN):
            return
        if share <= 0.0 or (feature.code, feature.entity) in told:
            continue
        told.add((feature.code, feature.entity))
        yield _reason(_case(flagged, place, column, feature, features, config), share)


def _case(
    flagged: Flagged, place: int, column: int, feature: Feature, features: Plan, config: Config
) -> Case:
    usual = features.raw_names.index(feature.usual) if feature.usual is not None else None
    return Case(
        feature=feature,
        value=float(flagged.values[place, column]),
        usual=None if usual is None else float(flagged.raw[place, usual]),
        amount=flagged.rows.amount[place] / 10_000,
        currency=config.schema_.base_currency,
    )


def _reason(case: Case, share: float) -> Mapping[str, Any]:
    return {
        "code": case.feature.code,
        "feature": case.feature.name,
        "value": round(case.value, 6),
        "usual": None if case.usual is None or np.isnan(case.usual) else round(case.usual, 6),
        "share": round(share, 4),
        "text": in_words(case),
    }

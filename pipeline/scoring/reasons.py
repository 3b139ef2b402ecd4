"""Reasons of flags: which features raised a score, what is usual there, and what share of the score is theirs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors.drift.histograms import ReferenceHistograms
from detectors.model.model import Model
from pipeline.config.config import Config
from pipeline.features.catalogue import Feature, FeatureCatalogue
from pipeline.scoring.reason_text import OFF_HOURS, ReasonFacts, categorical_field, reason_code, reason_text
from storage.frames import Transactions

Floats = NDArray[np.float64]
AUDIT_REASON = (
    {
        "code": "AUDIT_SAMPLE", "feature": None, "value": None, "usual": None, "share": 0.0,
        "text": "drawn at random, to see what flags miss",
    },
)  # fmt: skip
REASONS_MIN = 3  # with fewer, a reviewer has nothing to compare


@dataclass(frozen=True)
class FlaggedRows:
    """The flagged rows of a window, with the features that reasons are made from, and what is usual among earlier payments."""

    rows: Transactions
    raw: Floats
    values: Floats  # final features
    channel: NDArray[np.object_]
    reference: ReferenceHistograms = field(default_factory=lambda: ReferenceHistograms((), ()))


def contributions_of(model: Model, flagged: FlaggedRows) -> Floats:
    contributions = np.zeros_like(flagged.values)
    for channel in np.unique(flagged.channel.astype(str)):
        rows = np.flatnonzero(flagged.channel == channel)
        contributions[rows] = model.detector.explain_encoded(
            np.ascontiguousarray(flagged.values[rows]), channel
        )
    return contributions


def strongest_reasons(
    flagged: FlaggedRows, place: int, contributions: Floats, features: FeatureCatalogue, config: Config
) -> Iterator[Mapping[str, Any]]:
    """
    The three to `alerts.reasons` features that raised the score most.

    Each code and entity gives one reason: of several windows of the same fact, the strongest is kept. All features of an entity
    that the transaction does not have give one.
    """
    used: set[tuple[str, str | None]] = set()
    total = float(np.abs(contributions).sum()) or 1.0
    for column in np.argsort(-contributions, kind="stable"):
        feature = features.features[column]
        share = float(contributions[column]) / total
        if len(used) >= config.alerts.reasons or (share <= 0.0 and len(used) >= REASONS_MIN):
            return
        facts = _facts(flagged, place, column, feature, features, config)
        key = reason_code(facts), facts.absent or feature.entity
        if share <= 0.0 or key in used:
            continue
        used.add(key)
        yield _reason(facts, share)


def _facts(
    flagged: FlaggedRows,
    place: int,
    column: int,
    feature: Feature,
    features: FeatureCatalogue,
    config: Config,
) -> ReasonFacts:
    usual = features.raw_names.index(feature.usual) if feature.usual is not None else None
    rates = {
        name: flagged.raw[place, [positives, total]] for name, positives, total in features.encoding.rates
    }
    frauds, payments = rates.get(feature.name, (0.0, 0.0))
    stored = dict(features.encoding.passthrough).get(feature.name)
    is_imputed = stored is not None and bool(np.isnan(flagged.raw[place, stored]))
    at = {name: float(flagged.raw[place, column]) for name, column in features.encoding.passthrough}
    compared = "amount" if feature.code == "AMOUNT" else feature.name
    if feature.code == "TIME_OF_DAY":
        compared = next((name for name in OFF_HOURS if at.get(name, 0) > 0), "")
    return ReasonFacts(
        feature=feature,
        value=float(flagged.values[place, column]),
        usual=None if usual is None else float(flagged.raw[place, usual]),
        amount=flagged.rows.amount[place] / 10_000,
        currency=config.schema_.base_currency,
        event_time=int(flagged.rows.event_time[place]),
        absent=_absent_column(flagged.rows, place, feature, is_imputed=is_imputed),
        is_imputed=is_imputed,
        frauds=float(frauds),
        payments=float(payments),
        compared=compared,
        shares=_shares_around(flagged.reference, compared, at.get(compared)),
    )


def _shares_around(
    reference: ReferenceHistograms, name: str, value: float | None
) -> tuple[float, float] | None:
    """Shares of earlier payments with at most this value of a feature, and with at least it; None if they are not known."""
    if value is None or np.isnan(value) or name not in reference.names:
        return None
    shares = reference.histograms[reference.names.index(name)].shares_around(value)
    return None if np.isnan(shares[0]) else shares


def _absent_column(
    rows: Transactions, place: int, feature: Feature, *, is_imputed: bool = False
) -> str | None:
    """The column that the feature is about and the transaction has nothing in; the first of a pair."""
    if feature.code == "FIELD_VALUE":
        return feature.name if is_imputed else None
    about = categorical_field(feature) or feature.entity or ""
    names = [about] if about in rows.columns else about.split("+") if about else []
    return next((name for name in names if rows.columns[name].codes[place] < 0), None)


def _reason(facts: ReasonFacts, share: float) -> Mapping[str, Any]:
    return {
        "code": reason_code(facts),
        "feature": facts.feature.name,
        "value": round(facts.value, 6),
        "usual": None if facts.usual is None or np.isnan(facts.usual) else round(facts.usual, 6),
        "share": round(share, 4),
        "text": reason_text(facts),
    }

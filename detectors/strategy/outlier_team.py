"""
Outlier detection in families of features: one detector for each family, and one score for all of them.

Features that describe the same thing, such as velocity or what is usual for an entity, form a family. Each family has a
detector of its own, whose score becomes a surprisal, S = −ln of the share of training rows that score higher. The team's score
is their weighted mean::

    score = Σ w_f S_f / Σ w_f,   w_f = ((q.999 − q.5) / (q.9 − q.5))^TAIL_POWER

with q the quantiles of the family's training scores. A single detector on all features draws its cuts evenly among them, so
that a rare value of one is drowned by many that say nothing; in a sum each family has a voice. The voice is louder where the
family's tail is heavier: a family in which nothing is rarer than its tenth-rarest row has little to say.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from scipy.stats import rankdata

from detectors.base import SEED, Detector, DetectorError, Floats, row_sums
from detectors.inputs.ranks import RankScale, surprisal
from detectors.inputs.sample import FeatureGroup
from detectors.registry import DEFAULT_OUTLIER, outlier_detector

NO_GROUP = "outlier detection needs a group of features"
TAIL_POWER = 1.5
WEIGHT_MAX = 20.0  # a family whose tail is a few far values must not silence the others
# Columns whose ranks agree to this degree say the same thing, and one of them is enough.
SAME_RANKS = 0.99
ROWS_COMPARED = 5_000  # rows in which the ranks of columns are compared


@dataclass(frozen=True)
class FitSettings:
    """Settings of every fit."""

    outlier: str = DEFAULT_OUTLIER  # the detector that is fitted to each group of features
    seed: int = SEED
    threads: int = 1


@dataclass(frozen=True)
class RankedOutlier:
    """An outlier detector, the group of features that it sees, and the rank scale and weight of its training scores."""

    group: FeatureGroup
    detector: Detector
    scale: RankScale
    weight: float

    def __post_init__(self) -> None:
        if not 0 < self.weight <= WEIGHT_MAX:
            raise DetectorError(f"the weight of a family of features lies in (0, {WEIGHT_MAX:g}]")

    @classmethod
    def fit(
        cls, group: FeatureGroup, X: Floats, weight: Floats, settings: FitSettings, *, of_many: bool
    ) -> tuple[Self, Floats]:
        """Fit a detector to the rows of `X` (n, n_features) that are not known to be fraud; also their surprisals, (n,)."""
        kept = replace(group, columns=distinct_columns(X, group.columns)) if group.distinct else group
        view = kept.view(X)
        detector = outlier_detector(settings.outlier, settings.seed, of_many=of_many).fit(view)
        scores = detector.anomaly_score(view)
        scale = RankScale.fit(scores, weight)
        return cls(kept, detector, scale, tail_weight(scores, weight)), surprisal(scale.transform(scores))

    def surprisal(self, X: Floats) -> Floats:
        """−ln of the share of training rows above each row's score, (n,)."""
        return surprisal(self.scale.transform(self.detector.anomaly_score(self.group.view(X))))

    def explain(self, X: Floats) -> Floats:
        """Contribution of each feature to the detector's score, (n, n_features): 0 outside the group."""
        contributions = np.zeros_like(X)
        contributions[:, list(self.group.columns)] = self.detector.explain(self.group.view(X))
        return contributions


@dataclass(frozen=True)
class TeamScores:
    """What a team says of n rows."""

    rank: Floats  # (n,) share of training rows below the team's score, in (0, 1)
    families: Floats  # (n, n_members) surprisal of each family
    parts: Floats  # (n, n_members) what each family adds to the team's score

    @property
    def surprisal(self) -> Floats:
        """−ln of the share of training rows above the team's score, (n,)."""
        return surprisal(self.rank)


@dataclass(frozen=True)
class OutlierTeam:
    """The detectors of all families of features, and the rank scale of their common score."""

    members: tuple[RankedOutlier, ...]
    scale: RankScale

    def __post_init__(self) -> None:
        if not self.members:
            raise DetectorError(NO_GROUP)

    @classmethod
    def fit(cls, groups: Sequence[FeatureGroup], X: Floats, weight: Floats, settings: FitSettings) -> Self:
        """
        Fit the detector of each group.

        Parameters
        ----------
        X
            (n, n_features) rows that are not known to be fraud.
        weight
            (n,) how many transactions each row stands for.
        """
        if not groups:
            raise DetectorError(NO_GROUP)
        fitted = [RankedOutlier.fit(group, X, weight, settings, of_many=len(groups) > 1) for group in groups]
        members = tuple(member for member, _ in fitted)
        surprisals = np.stack([each for _, each in fitted], axis=1)
        return cls(members, RankScale.fit(row_sums(surprisals * _shares(members)), weight))

    @property
    def groups(self) -> tuple[FeatureGroup, ...]:
        """The groups of features, each with the columns that its detector sees."""
        return tuple(member.group for member in self.members)

    @property
    def columns(self) -> tuple[int, ...]:
        """The features that a detector sees, ascending."""
        return tuple(sorted({column for group in self.groups for column in group.columns}))

    def rank(self, X: Floats) -> Floats:
        """Share of training rows below each row's score, (n,) in (0, 1)."""
        return self.score(X).rank

    def score(self, X: Floats) -> TeamScores:
        """What the team says of rows of features (n, n_features)."""
        families = np.stack([member.surprisal(X) for member in self.members], axis=1)
        parts = families * _shares(self.members)
        return TeamScores(self.scale.transform(row_sums(parts)), families, parts)

    def explain(self, X: Floats) -> Floats:
        """
        Contribution of each feature, (n, n_features).

        Of one detector these are its own contributions, in units of its score. Of several they add up to the score of the team:
        each family's part of it is divided among the features that raise its detector's score, in proportion.
        """
        if len(self.members) == 1:
            return self.members[0].explain(X)
        return self.divided(X, self.score(X).parts)

    def divided(self, X: Floats, parts: Floats) -> Floats:
        """
        Contribution of each feature, (n, n_features), given those of the families, (n, n_members), which they add up to.

        A family's part is divided among the features that raise its detector's score, in proportion.
        """
        contributions = np.zeros_like(X)
        for member, part in zip(self.members, parts.T, strict=True):
            contributions += _in_proportion(np.maximum(member.explain(X), 0.0), member.group, part)
        return contributions


def tail_weight(scores: Floats, weight: Floats) -> float:
    """Weight of a family by how far its rarest training scores lie beyond its rare ones; 1 if it has no spread."""
    middle, rare, rarest = np.quantile(scores, (0.5, 0.9, 0.999), weights=weight, method="inverted_cdf")
    if not rare > middle:
        return 1.0
    return float(np.clip(((rarest - middle) / (rare - middle)) ** TAIL_POWER, 1.0, WEIGHT_MAX))


def distinct_columns(X: Floats, columns: Sequence[int]) -> tuple[int, ...]:
    """
    The columns without those that say the same as an earlier one: Spearman's |ρ| of `SAME_RANKS` or more.

    Of constant columns one is kept if there is nothing else.
    """
    rows = X[:: max(1, len(X) // ROWS_COMPARED)]
    ranks = {column: rankdata(rows[:, column]) for column in columns}
    kept: list[int] = []
    units: list[Floats] = []
    for column, rank in ranks.items():
        centred = rank - rank.mean()
        length = float(np.sqrt(centred @ centred))
        if not length:
            continue
        unit = centred / length
        if all(abs(float(unit @ other)) < SAME_RANKS for other in units):
            kept.append(column)
            units.append(unit)
    return tuple(kept) or tuple(columns[:1])


def _shares(members: Sequence[RankedOutlier]) -> Floats:
    """Weight of each family; they sum to 1, (n_members,)."""
    weights = np.array([member.weight for member in members])
    return np.asarray(weights / weights.sum())


def _in_proportion(raising: Floats, group: FeatureGroup, part: Floats) -> Floats:
    """Divide each row's part in proportion to its values; evenly among the group's columns if they are all 0."""
    raised = raising.sum(axis=1, keepdims=True)
    evenly = np.zeros(raising.shape[1])
    evenly[list(group.columns)] = 1.0 / len(group.columns)
    shares = np.where(raised > 0, raising / np.where(raised > 0, raised, 1.0), evenly)
    return shares * part[:, np.newaxis]

"""
The fitted components of a strategy: outlier detectors and up to two classifiers.

Every component has a rank scale of its own training scores, so that their scores are comparable: the share of training
rows below a score, and its *surprisal*, −ln of the share above, which has the highest resolution at the top.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from detectors.algorithms.boosting import Boosting
from detectors.algorithms.random_forest import RandomForest
from detectors.base import SEED, Classifier, Detector, Floats
from detectors.inputs.encoding import Encoder
from detectors.inputs.ranks import RankScale
from detectors.inputs.sample import FeatureGroup, Layout, Sample
from detectors.registry import DEFAULT_OUTLIER, outlier_detector

FOREST_MAX_GENUINE = 10_000  # half the default: a fit takes half as long and ranks as well, within noise


@dataclass(frozen=True)
class FitSettings:
    """Settings of every fit."""

    outlier: str = DEFAULT_OUTLIER  # the detector that is fitted to each group of features
    seed: int = SEED
    threads: int = 1


@dataclass(frozen=True)
class RankedOutlier:
    """An outlier detector, the group of features that it sees, and the rank scale of its training scores."""

    group: FeatureGroup
    detector: Detector
    scale: RankScale

    @classmethod
    def fit(cls, group: FeatureGroup, X: Floats, weight: Floats, settings: FitSettings) -> Self:
        """Fit a detector and its rank scale to the rows of `X` (n, n_features) that are not known to be fraud."""
        view = group.view(X)
        detector = outlier_detector(settings.outlier, settings.seed).fit(view)
        return cls(group, detector, RankScale.fit(detector.anomaly_score(view), weight))

    def rank(self, X: Floats) -> Floats:
        """Share of training rows below each row's score, (n,)."""
        return self.scale.transform(self.detector.anomaly_score(self.group.view(X)))

    def explain(self, X: Floats) -> Floats:
        """Contribution of each feature to the detector's score, (n, n_features): 0 outside the group."""
        contributions = np.zeros_like(X)
        contributions[:, list(self.group.columns)] = self.detector.explain(self.group.view(X))
        return contributions


@dataclass(frozen=True)
class RankedClassifier:
    """A classifier and the rank scale of its training scores."""

    classifier: Classifier
    scale: RankScale

    @classmethod
    def fit(cls, classifier: Classifier, X: Floats, sample: Sample) -> Self:
        """Fit the classifier and its rank scale."""
        classifier.fit(X, sample.y, sample.weight)
        return cls(classifier, RankScale.fit(classifier.anomaly_score(X), sample.weight))

    def surprisal(self, X: Floats) -> Floats:
        """−ln of the share of training rows above each row's score, (n,)."""
        return surprisal(self.scale.transform(self.classifier.anomaly_score(X)))


@dataclass(frozen=True)
class Components:
    """The outlier detector of each group of features and, where the strategy needs them, the classifiers."""

    encoder: Encoder
    outliers: tuple[RankedOutlier, ...]
    boosting: RankedClassifier | None = None
    forest: RankedClassifier | None = None

    @classmethod
    def fit(cls, layout: Layout, mature: Sample, usual: Sample, settings: FitSettings, strategy: str) -> Self:
        """
        Fit the components of a strategy: only the outlier detectors, boosting as well, or boosting and a random forest.

        Parameters
        ----------
        mature
            Labelled rows.
        usual
            Rows not known to be fraud, for the outlier detectors.
        """
        sample = mature if len(mature) else usual
        encoder = Encoder.fit(layout.encoding, sample.raw, sample.y, sample.weight)
        of_usual = encoder.transform(usual.raw)
        outliers = tuple(
            RankedOutlier.fit(group, of_usual, usual.weight, settings) for group in layout.groups
        )
        if strategy == "outlier":
            return cls(encoder, outliers)
        X = encoder.transform(mature.raw)
        boosting = RankedClassifier.fit(Boosting(seed=settings.seed, threads=settings.threads), X, mature)
        if strategy == "classification":
            return cls(encoder, outliers, boosting)
        forest = RankedClassifier.fit(
            RandomForest(seed=settings.seed, max_genuine=FOREST_MAX_GENUINE), X, mature
        )
        return cls(encoder, outliers, boosting, forest)

    @property
    def layout(self) -> Layout:
        """The layout that the components were fitted in."""
        return Layout(self.encoder.plan, tuple(outlier.group for outlier in self.outliers))

    def outlier_rank(self, X: Floats) -> Floats:
        """Outlier rank of each feature row in (0, 1), (n,)."""
        return _combined([outlier.rank(X) for outlier in self.outliers])

    def explain_outlier(self, X: Floats) -> Floats:
        """Contribution of each feature to the outlier detector's score, (n, n_features)."""
        return _combined([outlier.explain(X) for outlier in self.outliers])


def surprisal(rank: Floats) -> Floats:
    """−ln(1 − rank), elementwise: 0 at rank 0, and 1 more for each e-fold rarer score."""
    return -np.log1p(-rank)


def _combined(of_groups: Sequence[Floats]) -> Floats:
    """The ranks or contributions of all groups of features in one array; there is one group."""
    (only,) = of_groups
    return only

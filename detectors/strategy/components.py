"""
The fitted components of a strategy: a team of outlier detectors and up to two classifiers.

Every component has a rank scale of its own training scores, so that their scores are comparable: the share of training
rows below a score, and its *surprisal*, −ln of the share above, which has the highest resolution at the top. Where a component
learns from labels, the share is of genuine rows: among all of them, known frauds would take the top for themselves.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from detectors.algorithms.boosting import Boosting
from detectors.algorithms.random_forest import RandomForest
from detectors.base import Classifier, Floats, require_fitted
from detectors.inputs.encoding import Encoder
from detectors.inputs.ranks import RankScale, surprisal
from detectors.inputs.sample import FeatureGroup, Layout, Sample
from detectors.strategy.family_regression import FamilyRegression
from detectors.strategy.outlier_team import FitSettings, OutlierTeam, TeamScores

FOREST_MAX_GENUINE = 10_000  # half as many rank worse, twice as many no better


@dataclass(frozen=True)
class RankedClassifier:
    """A classifier and the rank scale of its training scores, which it needs beside others only."""

    classifier: Classifier
    scale: RankScale | None = None

    @classmethod
    def fit(cls, classifier: Classifier, X: Floats, sample: Sample, *, alone: bool = False) -> Self:
        """Fit the classifier and, unless it is alone, its rank scale."""
        classifier.fit(X, sample.y, sample.weight)
        return cls(classifier, None if alone else _scale_of_genuine(classifier.anomaly_score(X), sample))

    def surprisal(self, X: Floats) -> Floats:
        """−ln of the share of genuine training rows above each row's score, (n,)."""
        return self.surprisal_of(self.classifier.anomaly_score(X))

    def surprisal_of(self, scores: Floats) -> Floats:
        """The same, given the classifier's scores."""
        return surprisal(require_fitted(self.scale, "the rank scale of a classifier").transform(scores))


@dataclass(frozen=True)
class RankedFamilies:
    """The regression on the families and their features, and the rank scale of its scores."""

    regression: FamilyRegression
    features: FeatureGroup
    scale: RankScale

    @classmethod
    def fit(cls, outliers: OutlierTeam, X: Floats, sample: Sample) -> Self:
        """Fit to labelled rows, whose features are `X` (n, n_features)."""
        scores, group = outliers.score(X), FeatureGroup("families", outliers.columns)
        view = group.view(X)
        regression = FamilyRegression.fit(scores, view, sample.y, sample.weight)
        return cls(regression, group, _scale_of_genuine(regression.score(scores, view), sample))

    def surprisal(self, scores: TeamScores, X: Floats) -> Floats:
        """−ln of the share of genuine training rows above each row's score, (n,), given what the team says of the rows."""
        return surprisal(self.scale.transform(self.regression.score(scores, self.features.view(X))))

    def explain(self, outliers: OutlierTeam, scores: TeamScores, X: Floats) -> Floats:
        """Contribution of each feature to the logit, less the intercept, (n, n_features), given what the team says of the rows."""
        contributions = outliers.divided(X, self.regression.of_families(scores))
        contributions[:, list(self.features.columns)] += self.regression.of_features(self.features.view(X))
        return contributions


@dataclass(frozen=True)
class BlendSides:
    """What the sides of a blend say of n rows: the scores of its team of outlier detectors, and surprisals, (n,) each."""

    team: TeamScores
    families: Floats
    boosting: Floats
    forest: Floats
    margin: Floats  # boosting's logit

    @property
    def mixed(self) -> tuple[Floats, Floats, Floats]:
        """The three that a blend mixes."""
        return self.families, self.boosting, self.forest


@dataclass(frozen=True)
class Components:
    """The outlier detectors and, where the strategy needs them, the regression on their families and the classifiers."""

    encoder: Encoder
    outliers: OutlierTeam
    families: RankedFamilies | None = None
    boosting: RankedClassifier | None = None
    forest: RankedClassifier | None = None

    @classmethod
    def fit(cls, layout: Layout, mature: Sample, usual: Sample, settings: FitSettings, strategy: str) -> Self:
        """
        Fit the components of a strategy.

        Under `outlier` these are the outlier detectors only, under `classification` boosting as well; a blend has the regression on
        families, boosting and a random forest.

        Parameters
        ----------
        mature
            Labelled rows.
        usual
            Rows not known to be fraud, for the outlier detectors.
        """
        sample = mature if len(mature) else usual
        encoder = Encoder.fit(layout.encoding, sample.raw, sample.y, sample.weight)
        outliers = OutlierTeam.fit(layout.groups, encoder.transform(usual.raw), usual.weight, settings)
        if strategy == "outlier":
            return cls(encoder, outliers)
        X = encoder.transform(mature.raw)
        families = RankedFamilies.fit(outliers, X, mature) if strategy == "blend" else None
        boosted, alone = Boosting(seed=settings.seed, threads=settings.threads), strategy == "classification"
        boosting = RankedClassifier.fit(boosted, X, mature, alone=alone)
        if alone:
            return cls(encoder, outliers, boosting=boosting)
        forest = RankedClassifier.fit(
            RandomForest(max_genuine=FOREST_MAX_GENUINE, seed=settings.seed), X, mature
        )
        return cls(encoder, outliers, families, boosting, forest)

    def with_outliers(self, groups: Sequence[FeatureGroup], usual: Sample, settings: FitSettings) -> Self:
        """The same with outlier detectors that are fitted to these rows."""
        X = self.encoder.transform(usual.raw)
        return replace(self, outliers=OutlierTeam.fit(groups, X, usual.weight, settings))

    @property
    def layout(self) -> Layout:
        """The layout that the components were fitted in."""
        return Layout(self.encoder.plan, self.outliers.groups)

    def sides(self, X: Floats) -> BlendSides:
        """
        What the sides of a blend say of rows of features (n, n_features).

        Raises
        ------
        NotFitted
            These are not the components of a blend.
        """
        families = require_fitted(self.families, "the regression of a blend")
        boosting = require_fitted(self.boosting, "the boosting of a blend")
        forest = require_fitted(self.forest, "the random forest of a blend")
        scores, margin = self.outliers.score(X), boosting.classifier.anomaly_score(X)
        ranked = families.surprisal(scores, X), boosting.surprisal_of(margin), forest.surprisal(X)
        return BlendSides(scores, *ranked, margin)


def _scale_of_genuine(scores: Floats, sample: Sample) -> RankScale:
    genuine = sample.y == 0
    return RankScale.fit(scores[genuine], sample.weight[genuine])

"""
The fitted components of a strategy: an outlier detector and up to two classifiers.

Every component has a rank scale of its own training scores, so that their scores are comparable: the share of training
rows below a score, and its *surprisal*, −ln of the share above, which has the highest resolution at the top.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from detectors.algorithms.boosting import Boosting
from detectors.algorithms.isolation_forest import IsolationForest
from detectors.algorithms.random_forest import RandomForest
from detectors.base import ArtifactError, Classifier, Floats, State
from detectors.inputs.encoding import Encoder
from detectors.inputs.ranks import RankScale
from detectors.inputs.sample import Layout, Sample

FOREST_MAX_GENUINE = 10_000  # half the default: a fit takes half as long and ranks as well, within noise


@dataclass(frozen=True)
class FitSettings:
    """Settings of every fit."""

    trees: int = 200  # of the isolation forest
    seed: int = 7
    threads: int = 1


@dataclass(frozen=True)
class RankedClassifier:
    """A classifier and the rank scale of its training scores."""

    classifier: Classifier
    scale: RankScale

    @classmethod
    def fit(cls, classifier: Classifier, X: Floats, sample: Sample) -> Self:
        """Fit the classifier and its rank scale."""
        classifier.fit(X, sample.y, sample.weight)
        return cls(classifier, RankScale().fit(classifier.anomaly_score(X), sample.weight))

    def surprisal(self, X: Floats) -> Floats:
        """−ln of the share of training rows above each row's score, (n,)."""
        return surprisal(self.scale.transform(self.classifier.anomaly_score(X)))


@dataclass(frozen=True)
class Components:
    """The outlier detector and, where the strategy needs them, the classifiers."""

    layout: Layout
    encoder: Encoder
    outlier: IsolationForest
    outlier_scale: RankScale
    boosting: RankedClassifier | None = None
    forest: RankedClassifier | None = None

    @classmethod
    def fit(cls, layout: Layout, mature: Sample, usual: Sample, settings: FitSettings, strategy: str) -> Self:
        """
        Fit the components of a strategy: only the outlier detector, boosting as well, or boosting and a random forest.

        Parameters
        ----------
        mature
            Labelled rows.
        usual
            Rows not known to be fraud, for the outlier detector.
        """
        sample = mature if len(mature) else usual
        encoder = Encoder(layout.encoding).fit(sample.raw, sample.y, sample.weight)
        view = layout.outlier_view(encoder.transform(usual.raw))
        outlier = IsolationForest(n_trees=settings.trees, seed=settings.seed).fit(view)
        scale = RankScale().fit(outlier.anomaly_score(view), usual.weight)
        if strategy == "outlier":
            return cls(layout, encoder, outlier, scale)
        X = encoder.transform(mature.raw)
        boosting = RankedClassifier.fit(Boosting(seed=settings.seed, threads=settings.threads), X, mature)
        if strategy == "classification":
            return cls(layout, encoder, outlier, scale, boosting)
        forest = RankedClassifier.fit(
            RandomForest(seed=settings.seed, max_genuine=FOREST_MAX_GENUINE), X, mature
        )
        return cls(layout, encoder, outlier, scale, boosting, forest)

    def outlier_rank(self, X: Floats) -> Floats:
        """Outlier rank of each feature row in (0, 1), (n,)."""
        return self.outlier_scale.transform(self.outlier.anomaly_score(self.layout.outlier_view(X)))

    def explain_outlier(self, X: Floats) -> Floats:
        """Contribution of each feature to the outlier detector's score, (n, n_features)."""
        contributions = np.zeros_like(X)
        of_view = self.outlier.explain(self.layout.outlier_view(X))
        contributions[:, list(self.layout.outlier_columns)] = of_view
        return contributions

    def states(self) -> dict[str, State]:
        """The fitted components by name, as plain arrays and JSON."""
        states = {
            "encoder": self.encoder.state(),
            "outlier": self.outlier.state(),
            "outlier_scale": self.outlier_scale.state(),
        }
        for name, ranked in (("classifier", self.boosting), ("forest", self.forest)):
            if ranked is not None:
                states[name] = ranked.classifier.state()
                states[f"{name}_scale"] = ranked.scale.state()
        return states

    @classmethod
    def from_states(cls, states: Mapping[str, State], layout: Layout, strategy: str) -> Self:
        """
        Restore the components from their `states`; they score the same to the bit.

        Raises
        ------
        ArtifactError
            A component that the strategy needs is missing.
        """
        return cls(
            layout,
            Encoder.from_state(states["encoder"]),
            IsolationForest.from_state(states["outlier"]),
            RankScale.from_state(states["outlier_scale"]),
            None if strategy == "outlier" else _ranked(states, "classifier", Boosting),
            _ranked(states, "forest", RandomForest) if strategy == "blend" else None,
        )


def surprisal(rank: Floats) -> Floats:
    """−ln(1 − rank), elementwise: 0 at rank 0, and 1 more for each e-fold rarer score."""
    return -np.log1p(-rank)


def _ranked(
    states: Mapping[str, State], name: str, kind: type[Boosting] | type[RandomForest]
) -> RankedClassifier:
    scale = f"{name}_scale"
    if name not in states or scale not in states:
        raise ArtifactError(
            f"the stored model has no {name if name not in states else scale}: it was made by an earlier version, "
            "train a new model"
        )
    return RankedClassifier(kind.from_state(states[name]), RankScale.from_state(states[scale]))

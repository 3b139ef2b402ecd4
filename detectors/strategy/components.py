"""
The detectors that a strategy is made of, fitted side by side on the same rows.

Every detector brings the scale of its own training scores, so that what they say can be put beside one another: the
share of training rows below a score, and its *surprisal*, −ln of the share above, which grows where decisions are made.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from detectors.algorithms.boosting import Boosting
from detectors.algorithms.isolation_forest import IsolationForest
from detectors.algorithms.random_forest import RandomForest
from detectors.base import ArtefactError, Classifier, Floats, State
from detectors.inputs.encoding import Encoder
from detectors.inputs.ranks import RankScale
from detectors.inputs.sample import Layout, Sample

FOREST_GENUINE = 10_000  # half the usual: a fit takes half as long and ranks as well, within noise


@dataclass(frozen=True)
class Fitting:
    """What every fit is told."""

    trees: int = 200  # of the isolation forest
    seed: int = 7
    threads: int = 1


@dataclass(frozen=True)
class Ranked:
    """A classifier and the scale of its scores on the rows it was fitted on."""

    classifier: Classifier
    scale: RankScale

    @classmethod
    def fit(cls, classifier: Classifier, X: Floats, sample: Sample) -> Self:
        """Fit both."""
        classifier.fit(X, sample.y, sample.weight)
        return cls(classifier, RankScale().fit(classifier.anomaly_score(X), sample.weight))

    def surprisal(self, X: Floats) -> Floats:
        """−ln of the share of training rows above each row's score, (n,)."""
        return surprisal(self.scale.transform(self.classifier.anomaly_score(X)))


@dataclass(frozen=True)
class Parts:
    """The outlier detector, and what else the strategy needs."""

    layout: Layout
    encoder: Encoder
    outlier: IsolationForest
    outlier_scale: RankScale
    boosting: Ranked | None = None
    forest: Ranked | None = None

    @classmethod
    def fit(cls, layout: Layout, mature: Sample, usual: Sample, how: Fitting, wanted: str) -> Self:
        """
        Fit what the strategy `wanted` needs: nothing but the outlier detector, boosting, or boosting and a forest.

        Parameters
        ----------
        mature
            Labelled rows.
        usual
            Rows that are not known to be fraud, for the outlier detector.
        """
        known = mature if len(mature) else usual
        encoder = Encoder(layout.encoding).fit(known.raw, known.y, known.weight)
        view = layout.outlier_view(encoder.transform(usual.raw))
        outlier = IsolationForest(n_trees=how.trees, seed=how.seed).fit(view)
        scale = RankScale().fit(outlier.anomaly_score(view), usual.weight)
        if wanted == "outlier":
            return cls(layout, encoder, outlier, scale)
        X = encoder.transform(mature.raw)
        boosting = Ranked.fit(Boosting(seed=how.seed, threads=how.threads), X, mature)
        if wanted == "classification":
            return cls(layout, encoder, outlier, scale, boosting)
        forest = Ranked.fit(RandomForest(seed=how.seed, max_genuine=FOREST_GENUINE), X, mature)
        return cls(layout, encoder, outlier, scale, boosting, forest)

    def outlier_rank(self, X: Floats) -> Floats:
        """Rarity of each row of features in (0, 1)."""
        return self.outlier_scale.transform(self.outlier.anomaly_score(self.layout.outlier_view(X)))

    def explain_outlier(self, X: Floats) -> Floats:
        """Contribution of each feature to the outlier detector's score, (n, n_features)."""
        contributions = np.zeros_like(X)
        of_view = self.outlier.explain(self.layout.outlier_view(X))
        contributions[:, list(self.layout.outlier_columns)] = of_view
        return contributions

    def states(self) -> dict[str, State]:
        """All that was fitted, by name, as plain arrays and JSON."""
        found = {
            "encoder": self.encoder.state(),
            "outlier": self.outlier.state(),
            "outlier_scale": self.outlier_scale.state(),
        }
        for name, one in (("classifier", self.boosting), ("forest", self.forest)):
            if one is not None:
                found[name] = one.classifier.state()
                found[f"{name}_scale"] = one.scale.state()
        return found

    @classmethod
    def from_states(cls, states: Mapping[str, State], layout: Layout, wanted: str) -> Self:
        """
        The parts that `states` were taken from; they score bit for bit alike.

        Raises
        ------
        ArtefactError
            Something that the strategy needs is missing.
        """
        return cls(
            layout,
            Encoder.from_state(states["encoder"]),
            IsolationForest.from_state(states["outlier"]),
            RankScale.from_state(states["outlier_scale"]),
            None if wanted == "outlier" else _ranked(states, "classifier", Boosting),
            _ranked(states, "forest", RandomForest) if wanted == "blend" else None,
        )


def surprisal(rank: Floats) -> Floats:
    """−ln(1 − rank), elementwise: 0 for the most usual, and 1 more for each e-fold rarer."""
    return -np.log1p(-rank)


def _ranked(states: Mapping[str, State], name: str, kind: type[Boosting] | type[RandomForest]) -> Ranked:
    scale = f"{name}_scale"
    if name not in states or scale not in states:
        raise ArtefactError(
            f"the stored model has no {name if name not in states else scale}: it was made by an earlier version of "
            "fraudwatch, train anew with fraudwatch train"
        )
    return Ranked(kind.from_state(states[name]), RankScale.from_state(states[scale]))

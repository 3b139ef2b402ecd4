"""
Outlier detection that known frauds have taught what matters.

The surprisals of the families of features (`detectors.strategy.outlier_team`) are a dozen numbers with a meaning. A logistic
regression on them, and on the features z themselves in the direction of fraud, begins as the team's own combination and moves
away from it as frauds come in::

    logit = a + c S + Σ d_f S_f + Σ e_j z_j,
    c ~ N(COMMON, COMMON_SD²),   d_f ~ N(0, 1 / STRENGTH),   e_j ~ N(0, FEATURES_VARIANCE / n_features)

with S the surprisal of the team's score and z_j scaled by `SoftScale`. These are maximum a posteriori estimates: few frauds cannot
overrule the prior that a family matters by the weight of its tail (d = 0) and that no direction is suspicious (e = 0); many can.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from detectors.algorithms.pyod_support import thin_genuine
from detectors.algorithms.scaling import SoftScale
from detectors.base import (
    LEARNED_MAX,
    SEED,
    Bools,
    DetectorError,
    Floats,
    require_arrays,
    require_finite,
    row_sums,
)
from detectors.strategy.outlier_team import TeamScores

# Inverse variance of the families' own coefficients, and the variance of the features' part of the logit. Chosen on 1 to 100 known
# frauds in earlier weeks of six worlds and on tables without time: half or twice of either changes average precision by .02 at most.
STRENGTH = 64.0
FEATURES_VARIANCE = 0.5
# A fraud that is rarer than all but the share u of payments is u^−c times as frequent among frauds. The prior of c is narrow: with
# a wide one, a single fraud that looked usual turned the order of the team around.
COMMON, COMMON_SD = 0.75, 0.25
GENUINE_MAX = 10_000  # genuine rows that it learns from; they stand for all of them
ITERATIONS = 100
PRECISE = 1e-6  # length of the gradient, per unit of weight of the frauds, at which the search ends


@dataclass(frozen=True)
class FamilyRegression:
    """What it has learned; the intercept ranks nothing and is not kept."""

    team: float  # coefficient of the team's surprisal
    families: Floats  # (n_members,) coefficients of their surprisals
    scale: SoftScale
    features: Floats  # (n_features,) coefficients of the scaled features

    def __post_init__(self) -> None:
        require_finite("a regression on families", self.team)
        shapes = ((len(self.families),), self.families), ((len(self.scale.mean),), self.features)
        for shape, coefficients in shapes:
            require_arrays("a regression on families", shape, coefficients, at_most=LEARNED_MAX)

    @classmethod
    def fit(cls, scores: TeamScores, view: Floats, y: Floats, sample_weight: Floats) -> Self:
        """
        Fit to labelled rows.

        Parameters
        ----------
        scores
            What the team says of the rows.
        view
            (n, n_features) the features of all families.
        y
            (n,) 1 fraud, 0 genuine.
        sample_weight
            (n,) how many transactions each row stands for.

        Raises
        ------
        DetectorError
            There is no fraud, or no genuine row.
        """
        if not 0 < sample_weight @ y < sample_weight.sum():
            raise DetectorError("a regression on families needs both classes")
        scale = SoftScale.fit(view)
        rows, weight = thin_genuine(y, sample_weight, GENUINE_MAX, SEED)
        fraud = y[rows] == 1
        columns = np.column_stack(
            [scores.surprisal[rows], scores.families[rows], scale.transform(view[rows])]
        )
        members, features = scores.families.shape[1], view.shape[1]
        prior = np.append(COMMON, np.zeros(members + features))
        precision = np.concatenate(
            [
                [COMMON_SD**-2],
                np.full(members, STRENGTH),
                np.full(features, features / FEATURES_VARIANCE),
            ]
        )
        found = _most_likely(columns, fraud, weight, prior, precision)
        own, directions = np.split(found[1:], [members])
        return cls(float(found[0]), own, scale, directions)

    def of_families(self, scores: TeamScores) -> Floats:
        """What each family adds to the logit, (n, n_members)."""
        whole = row_sums(scores.parts)[:, np.newaxis]
        evenly = np.full_like(scores.parts, 1.0 / scores.parts.shape[1])
        shares = np.divide(scores.parts, whole, out=evenly, where=whole > 0)
        of_team = (self.team * scores.surprisal)[:, np.newaxis]
        return np.asarray(shares * of_team + scores.families * self.families)

    def of_features(self, view: Floats) -> Floats:
        """What each feature adds to the logit by its direction, (n, n_features)."""
        return np.asarray(self.scale.transform(view) * self.features)

    def score(self, scores: TeamScores, view: Floats) -> Floats:
        """Logit of fraud, less the intercept, (n,): the same to the bit in any batch."""
        of_families = self.team * scores.surprisal + row_sums(scores.families * self.families)
        return of_families + row_sums(self.of_features(view))


def _most_likely(columns: Floats, fraud: Bools, weight: Floats, prior: Floats, precision: Floats) -> Floats:
    """Coefficients of the columns, without the intercept, which has no prior, (n_columns,)."""

    design = np.column_stack([np.ones(len(columns)), columns])
    strength = np.append(0.0, precision)  # the intercept has no prior
    centre = np.append(0.0, prior)

    def loss(parameters: Floats) -> tuple[float, Floats]:
        logit, apart = design @ parameters, parameters - centre
        of_rows = np.logaddexp(0.0, np.where(fraud, -logit, logit))
        slope = weight * (expit(logit) - fraud)
        return float(weight @ of_rows + 0.5 * strength @ apart**2), slope @ design + strength * apart

    def curvature(parameters: Floats) -> Floats:
        p = expit(design @ parameters)
        return (design.T * (weight * p * (1.0 - p))) @ design + np.diag(strength)

    frauds, genuine = float(weight[fraud].sum()), float(weight[~fraud].sum())
    start = np.append(np.log(frauds / genuine) - prior[0], prior)
    found = minimize(
        loss,
        start,
        jac=True,
        hess=curvature,
        method="trust-exact",
        options={"gtol": PRECISE * frauds, "maxiter": ITERATIONS},
    ).x
    require_finite("a regression on families", *found)
    return np.asarray(found[1:])

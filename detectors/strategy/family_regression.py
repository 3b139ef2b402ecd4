"""
Outlier detection that known frauds have taught which families matter.

The surprisals of the families of features (`detectors.strategy.outlier_team`) are a dozen numbers with a meaning. A logistic
regression on them begins as the team's own combination and moves away from it as frauds come in::

    logit = a + c Σ w_f S_f + Σ d_f S_f,   d_f ~ N(0, 1 / STRENGTH)

with w_f the team's weights. These are maximum a posteriori estimates: few frauds cannot overrule the prior that a family
matters by the weight of its tail (d = 0), many can.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from detectors.base import LEARNED_MAX, DetectorError, Floats, require_arrays, require_finite, row_sums

# Inverse variance of the families' own coefficients. With 5 known frauds in each of six worlds 16 ranked no worse than the
# team alone in any (benchmarks/choice.py, weeks to tune on); 4 lost .014 in one and 64 gained less in four.
STRENGTH = 16.0
COMMON = (
    4.0  # where the coefficient of the team's combination begins; half or twice of it makes no difference
)
ITERATIONS = 200


@dataclass(frozen=True)
class FamilyRegression:
    """The learned coefficient of each family's surprisal; the intercept ranks nothing and is not kept."""

    coefficients: Floats  # (n_members,)

    def __post_init__(self) -> None:
        require_arrays(
            "a regression on families", (len(self.coefficients),), self.coefficients, at_most=LEARNED_MAX
        )

    @classmethod
    def fit(cls, surprisals: Floats, y: Floats, sample_weight: Floats, team: Floats) -> Self:
        """
        Fit to labelled rows.

        Parameters
        ----------
        surprisals
            (n, n_members) of the families.
        y
            (n,) 1 fraud, 0 genuine.
        sample_weight
            (n,) how many transactions each row stands for.
        team
            (n_members,) weights of the team, which sum to 1.

        Raises
        ------
        DetectorError
            There is no fraud, or no genuine row.
        """
        frauds, total = float(sample_weight @ y), float(sample_weight.sum())
        if not 0 < frauds < total:
            raise DetectorError("a regression on families needs both classes")
        columns = np.column_stack([surprisals @ team, surprisals])
        fraud, precision = y == 1, np.append(COMMON**-2, np.full(surprisals.shape[1], STRENGTH))
        prior = np.append(COMMON, np.zeros(surprisals.shape[1]))

        def loss(parameters: Floats) -> tuple[float, Floats]:
            logit = parameters[0] + columns @ parameters[1:]
            apart = parameters[1:] - prior
            of_rows = np.where(fraud, np.logaddexp(0.0, -logit), np.logaddexp(0.0, logit))
            slope = sample_weight * (expit(logit) - fraud)
            value = float(sample_weight @ of_rows + 0.5 * precision @ apart**2)
            return value, np.append(slope.sum(), slope @ columns + precision * apart)

        start = np.append(np.log(frauds / (total - frauds)) - COMMON, prior)
        found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": ITERATIONS}).x
        require_finite("a regression on families", *found)
        return cls(found[1] * team + found[2:])

    def contributions(self, surprisals: Floats) -> Floats:
        """What each family adds to the logit, (n, n_members)."""
        return surprisals * self.coefficients

    def score(self, surprisals: Floats) -> Floats:
        """Logit of fraud, less the intercept, (n,): the same to the bit in any batch."""
        return row_sums(self.contributions(surprisals))

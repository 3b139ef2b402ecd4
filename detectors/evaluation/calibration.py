"""
Probability calibration: from a classifier's logit to a calibrated probability of fraud.

One of four forms is fitted, depending on the number of frauds in the calibration fold: fewer frauds support fewer parameters.
All are strictly increasing functions of the logit alone, so that calibration keeps the ranking, creates no ties and does not
depend on the batch. Weights are sampling weights: they restore the prevalence among all transactions.

The module also computes reliability tables, with bins of equal size, since bins of equal width are useless where fraud is
1 in 1,000.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq, isotonic_regression, minimize
from scipy.special import expit, log_expit, logit

from detectors.base import DetectorError, Floats

Kind = Literal["identity", "intercept", "platt", "beta", "isotonic"]

PLATT_FROM, BETA_FROM, ISOTONIC_FROM = 20, 200, 1000  # frauds in the fold
SLOPE_MIN, SLOPE_MAX = (
    0.05,
    20.0,
)  # if scores rank backwards in a fold, they are flattened but not reversed
KNOT_ROWS = 20  # minimum number of frauds, and of genuine rows, in each level of the isotonic form
STRICT = 0.05  # share of the beta form in the isotonic one, so that it is never flat
LOGIT_MAX = 1e6  # larger logits, including infinities, are clipped
PROBABILITY_MIN, PROBABILITY_MAX = 1e-300, 1 - 2.0**-53  # keep both logarithms finite


@dataclass(frozen=True)
class Calibrator:
    """
    A strictly increasing function from a classifier's logit to a probability.

    The calibrated logit is g(z) = c − a · ln(1 + e^−z) + b · ln(1 + e^z), beta calibration in terms of the
    logit: with a = b it is c + a z, Platt's form, with a = b = 1 a shift. The isotonic form corrects g by a
    line through `knots`, continued outside them by steps as large as g's, and keeps a small share of g itself.

    References
    ----------
    Platt (1999), Probabilistic outputs for support vector machines.
    Kull, Silva Filho & Flach (2017), Beta calibration.
    Zadrozny & Elkan (2002), Transforming classifier scores into accurate multiclass probability estimates.
    """

    kind: Kind
    low: float = 1.0  # a, the slope far below 0
    high: float = 1.0  # b, the slope far above 0
    shift: float = 0.0  # c
    knots: Floats | None = None  # (2, k) values of g and their corrected values, both strictly ascending

    def __post_init__(self) -> None:
        rises = self.knots is None or bool((np.diff(self.knots) > 0).all())
        if not (min(self.low, self.high) > 0 and np.isfinite(self.shift) and rises):
            raise DetectorError("a calibrator must be an increasing function")

    def logit(self, scores: ArrayLike) -> Floats:
        """Calibrated logits of a classifier's logits, (n,)."""
        smooth = self._smooth(np.clip(np.asarray(scores, dtype=np.float64), -LOGIT_MAX, LOGIT_MAX))
        if self.knots is None:
            return smooth
        return (1 - STRICT) * _interpolate(self.knots, smooth) + STRICT * smooth

    def probability(self, scores: ArrayLike) -> Floats:
        """
        Probability of fraud of a classifier's logits, (n,), strictly between 0 and 1; NaN stays NaN.

        It is strictly increasing up to the precision of floats, about 1 − 1e−16.
        """
        return np.clip(expit(self.logit(scores)), PROBABILITY_MIN, PROBABILITY_MAX)

    def _smooth(self, z: Floats) -> Floats:
        if self.low == self.high:
            return self.shift + self.low * z
        return np.asarray(self.shift + self.low * log_expit(z) - self.high * log_expit(-z))


def fit_calibrator(scores: ArrayLike, y: ArrayLike, weight: ArrayLike | None = None) -> Calibrator:
    """
    Fit the form that suits the number of frauds in the fold.

    Below 20 frauds only the intercept is fitted, from 20 Platt scaling, from 200 beta calibration, from 1,000 isotonic
    regression. With one class in the fold nothing can be fitted, and the classifier's own probabilities are kept.

    Parameters
    ----------
    scores
        (n,) logits of rows that the classifier was not fitted on, finite.
    y
        (n,) 1 fraud, 0 genuine.
    weight
        (n,) how many transactions each row stands for; 1 by default.

    Raises
    ------
    DetectorError
        Lengths differ, a logit is not finite, a label is neither 0 nor 1, or a weight is negative.
    """
    fold = _checked(scores, y, weight)
    frauds = int(np.count_nonzero(fold.y == 1))
    if frauds in (0, len(fold.y)):
        return Calibrator("identity")
    if frauds < PLATT_FROM:
        return _fit_intercept(fold)
    if frauds < BETA_FROM:
        return _fit_platt(fold)
    return _fit_beta(fold) if frauds < ISOTONIC_FROM else _fit_isotonic(fold)


@dataclass(frozen=True)
class ReliabilityBin:
    """A bin of a reliability table: predicted and observed fraud of rows with similar probabilities."""

    lower: float  # smallest and largest probability in the bin
    upper: float
    mean: float  # mean probability
    rate: float  # share of fraud
    rows: int
    frauds: int


def reliability(p: ArrayLike, y: ArrayLike, bins: int = 10) -> list[ReliabilityBin]:
    """
    Predicted and observed shares of fraud in bins of about equal size, ascending; equal probabilities share a bin.

    There are fewer than `bins` bins if there are fewer distinct probabilities, and none without rows.
    """
    fold = _checked(p, y, None)
    _, place, sizes = np.unique(fold.z, return_inverse=True, return_counts=True)
    middle = np.cumsum(sizes) - sizes / 2
    places = np.minimum(np.floor(middle / max(len(fold.z), 1) * bins), bins - 1)[place]
    return [_bin(fold, places == number) for number in np.unique(places)]


@dataclass(frozen=True)
class _CalibrationRows:
    """Rows with a weight above 0: logits (or probabilities), labels, weights."""

    z: Floats
    y: Floats
    weight: Floats


def _fit_intercept(fold: _CalibrationRows) -> Calibrator:
    """Fit the shift after which the expected number of frauds in the fold is the observed one."""
    frauds = float(fold.weight @ fold.y)
    level = float(logit(frauds / fold.weight.sum()))
    lowest, highest = level - float(fold.z.max()) - 1e-9, level - float(fold.z.min()) + 1e-9
    shift = brentq(lambda c: float(fold.weight @ expit(fold.z + c)) / frauds - 1, lowest, highest)
    return Calibrator("intercept", shift=float(shift))


def _fit_platt(fold: _CalibrationRows) -> Calibrator:
    slope, shift = _logistic(fold.z.reshape(1, -1), fold)
    return Calibrator("platt", slope, slope, shift)


def _fit_beta(fold: _CalibrationRows) -> Calibrator:
    low, high, shift = _logistic(np.stack([log_expit(fold.z), -log_expit(-fold.z)]), fold)
    return Calibrator("beta", low, high, shift)


def _fit_isotonic(fold: _CalibrationRows) -> Calibrator:
    """Correct the beta form to the observed fraud rate of each level of an isotonic regression."""
    beta = _fit_beta(fold)
    order = np.argsort(fold.z, kind="stable")
    rows = _CalibrationRows(expit(beta.logit(fold.z[order])), fold.y[order], fold.weight[order])
    starts = _levels(fold.z[order], rows)
    total = np.add.reduceat(rows.weight, starts)
    expected = logit(np.add.reduceat(rows.weight * rows.z, starts) / total)
    observed = logit(np.add.reduceat(rows.weight * rows.y, starts) / total)
    knots = np.stack([expected, observed])
    if len(starts) < 2 or not (np.diff(knots) > 0).all():
        return beta
    return Calibrator("isotonic", beta.low, beta.high, beta.shift, knots)


def _levels(z: Floats, rows: _CalibrationRows) -> list[int]:
    """Start of each level of the isotonic regression; neighbours are merged until each level has enough rows."""
    first = np.flatnonzero(np.append(True, z[1:] != z[:-1]))
    weight = np.add.reduceat(rows.weight, first)
    share = np.add.reduceat(rows.weight * rows.y, first) / weight
    blocks = isotonic_regression(share, weights=weight).blocks
    frauds = np.add.reduceat(rows.y, first[blocks[:-1]])
    genuine = np.add.reduceat(1 - rows.y, first[blocks[:-1]])
    return _merged(first[blocks[:-1]].tolist(), frauds.tolist(), genuine.tolist())


def _merged(starts: list[int], frauds: list[float], genuine: list[float]) -> list[int]:
    merged, fraud_rows, genuine_rows = [0], 0.0, 0.0
    for following, fraud, other in zip([*starts[1:], None], frauds, genuine, strict=True):
        fraud_rows, genuine_rows = fraud_rows + fraud, genuine_rows + other
        if min(fraud_rows, genuine_rows) >= KNOT_ROWS and following is not None:
            merged.append(following)
            fraud_rows = genuine_rows = 0.0
    return merged if min(fraud_rows, genuine_rows) >= KNOT_ROWS else merged[:-1] or [0]


def _logistic(features: Floats, fold: _CalibrationRows) -> list[float]:
    """
    Weighted logistic regression on (k, n) features with bounded slopes; returns the slopes, then the intercept.

    Platt's targets add one fraud and one genuine row, so that slopes stay finite if scores separate the classes
    perfectly.
    """
    frauds = float(fold.weight @ fold.y)
    genuine = float(fold.weight.sum()) - frauds
    target = np.where(fold.y == 1, (frauds + 1) / (frauds + 2), 1 / (genuine + 2))
    design = np.vstack([features, np.ones(features.shape[1])])

    def loss(theta: Floats) -> float:
        t = theta @ design
        return float(fold.weight @ (-log_expit(-t) - target * t)) / frauds

    def gradient(theta: Floats) -> Floats:
        return np.asarray(design @ (fold.weight * (expit(theta @ design) - target)) / frauds)

    slopes = len(features)
    start = np.append(np.ones(slopes), 0.0)
    bounds = [(SLOPE_MIN, SLOPE_MAX)] * slopes + [(None, None)]
    solution = minimize(
        loss,
        start,
        jac=gradient,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": 1000, "ftol": 1e-14, "gtol": 1e-9},
    )
    return [float(number) for number in solution.x]


def _interpolate(knots: Floats, x: Floats) -> Floats:
    """Linear interpolation of knots with slope 1 beyond them; each piece ends at or below the start of the next."""
    at, to = knots
    piece = np.clip(np.searchsorted(at, x, side="right") - 1, 0, len(at) - 1)
    slope = np.append(np.diff(to) / np.diff(at), 1.0)
    ends = np.append(to[1:], np.inf)
    inside = np.minimum(to[piece] + slope[piece] * (x - at[piece]), ends[piece])
    return np.asarray(np.where(x < at[0], to[0] + (x - at[0]), inside))


def _bin(fold: _CalibrationRows, rows: NDArray[np.bool_]) -> ReliabilityBin:
    p, y, weight = fold.z[rows], fold.y[rows], fold.weight[rows]
    return ReliabilityBin(
        lower=float(p.min()),
        upper=float(p.max()),
        mean=_mean(p, weight),
        rate=_mean(y, weight),
        rows=len(p),
        frauds=int(y.sum()),
    )


def _mean(values: Floats, weight: Floats) -> float:
    return float(weight @ values / weight.sum()) if len(values) else float("nan")


def _checked(scores: ArrayLike, y: ArrayLike, weight: ArrayLike | None) -> _CalibrationRows:
    z, labels = np.asarray(scores, dtype=np.float64), np.asarray(y, dtype=np.float64)
    weights = np.ones(len(labels)) if weight is None else np.asarray(weight, dtype=np.float64)
    if not z.shape == labels.shape == weights.shape:
        raise DetectorError(
            f"scores, labels and weights need one length, got {z.shape}, {labels.shape}, {weights.shape}"
        )
    if not (np.isfinite(z).all() and np.isfinite(weights).all() and (weights >= 0).all()):
        raise DetectorError("scores and weights must be finite, weights 0 or more")
    if not np.isin(labels, (0.0, 1.0)).all():
        raise DetectorError("y must be 1 for fraud or 0 for genuine in every row")
    counted = weights > 0
    return _CalibrationRows(z[counted], labels[counted], weights[counted])

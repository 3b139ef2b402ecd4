"""
The interface of a detector (arrays in, scores out) and the checks of its inputs.

The sign is stated here once for the package: **a higher `anomaly_score` is more suspicious.** Rows are scored
independently, so a row's score is the same to the last bit in any batch and any order.

    DetectorError            a detector cannot fit or score: the message names counts, columns and a remedy
    ├── NotFitted            it was asked for scores before `fit`
    └── ArtifactError        a stored model that cannot be trusted
"""

from typing import Any, ClassVar, Literal, Protocol, Self, TypeVar, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
T = TypeVar("T")

Strategy = Literal["outlier", "blend", "classification"]
Method = Literal["auto", Strategy]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)  # from no labels to many

SEED = 7  # of every draw of random numbers: the same rows and threads give the same model
MIN_FRAUDS_TO_FIT = 2  # a classifier fitted on one fraud would memorise it
# Fewest known frauds that a strategy learns from; with one, a blend's classifiers have no weight.
FRAUDS_NEEDED: dict[Strategy, int] = {"outlier": 0, "blend": 1, "classification": MIN_FRAUDS_TO_FIT}
POSITIVE_WEIGHT_MAX = 30.0
LEARNED_MAX = 1e100  # of what is learned on scaled columns; products of a few of them are finite


class DetectorError(ValueError):
    """
    A detector cannot fit or score.

    Attributes
    ----------
    code
        Stable name of the kind of error.
    message, remedy
        What is wrong and, where there is one, what would do; the text of the error is "message: remedy".
    """

    code: ClassVar[str] = "detector"

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}: {self.remedy}" if self.remedy else self.message


class NotFitted(DetectorError):  # noqa: N818 - reads as the state it reports
    """A detector was asked for scores before `fit`."""

    code = "not_fitted"


class ArtifactError(DetectorError):
    """A stored model is damaged, was written by someone else, or scores differently than when it was stored."""

    code = "artifact"


class Detector(Protocol):
    """
    An algorithm that scores rows by how suspicious they are.

    `X` is (n_samples, n_features), finite; it is never written to. `detectors.registry` says whether `fit` needs `y`, and
    whether `base_score` plus a row's contributions is its score (to rounding).

    A detector is a dataclass, so that `detectors.codec` can store it: its fields are the parameters, and `fitted`, a frozen
    dataclass of what was learned, None before `fit`. An outlier detector has the parameter `seed`.
    """

    name: ClassVar[str]

    def fit(self, X: ArrayLike, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None) -> Self:
        """
        Fit to training rows.

        Parameters
        ----------
        y
            (n_samples,) 1 fraud, 0 genuine; ignored by unsupervised detectors.
        sample_weight
            (n_samples,) how many transactions each row stands for; 1 by default.

        Raises
        ------
        DetectorError
            The rows cannot be fitted.
        """

    def anomaly_score(self, X: ArrayLike) -> Floats:
        """Anomaly score of each row, (n_samples,); higher = more suspicious."""

    def explain(self, X: ArrayLike) -> Floats:
        """Contributions, (n_samples, n_features), in units of `anomaly_score`; positive = more suspicious."""

    @property
    def base_score(self) -> float:
        """The score to which the contributions of a row are added."""


class Classifier(Detector, Protocol):
    """
    A supervised detector.

    Training may weight a fraud w times a genuine row. `anomaly_score` is the logit of the probability of fraud
    with that weight undone: p = p_s / (p_s + w(1 − p_s)) is, on the logit, a subtraction of log w, which keeps the
    order and clips nothing (Elkan 2001, The foundations of cost-sensitive learning, theorem 2).
    """

    def fraud_probability(self, X: ArrayLike) -> Floats:
        """Uncalibrated probability of fraud of each row, (n_samples,)."""


def require_fitted(fitted: T | None, name: str) -> T:
    """
    What a detector has learned.

    Raises
    ------
    NotFitted
        It has learned nothing yet.
    """
    if fitted is None:
        raise NotFitted(f"{name} is not fitted", remedy="call fit first")
    return fitted


def require_arrays(owner: str, shape: tuple[int, ...], *parts: NDArray[Any], at_most: float = np.inf) -> None:
    """
    Check arrays that were learned, and that code indexes by: a stored one may have any shape and values.

    Raises
    ------
    DetectorError
        One of them has another shape, or a value that is not finite, or is larger than `at_most`.
    """
    for part in parts:
        if part.shape != shape:
            raise DetectorError(f"{owner} has an array of shape {part.shape}, its others need {shape}")
        if not np.isfinite(part).all() or (at_most < np.inf and np.abs(part).max(initial=0) > at_most):
            raise DetectorError(f"{owner} has an array with values that nobody can have learned")


def require_finite(owner: str, *values: float) -> None:
    """Raise DetectorError if one of the numbers is infinite or missing."""
    if not np.isfinite(values).all():
        raise DetectorError(f"{owner} has numbers that are not finite: {values}")


def as_rows(X: ArrayLike, n_features: int | None = None) -> Floats:
    """
    Validate a feature matrix and return it as C-contiguous float64; the input is not changed.

    Raises
    ------
    DetectorError
        The matrix is not numeric, not 2-D, has another number of columns than at `fit`, or holds a value that is not finite.
    """
    rows = _as_floats(X)
    if rows.ndim != 2:
        raise DetectorError(f"a feature matrix has shape (n_samples, n_features), got {rows.shape}")
    if n_features is not None and rows.shape[1] != n_features:
        raise DetectorError(
            f"fitted on {n_features} features, got {rows.shape[1]}", remedy="pass the same columns"
        )
    finite = np.isfinite(rows)
    if not finite.all():
        row, column = (int(place) for place in np.argwhere(~finite)[0])
        raise DetectorError(
            f"column {column} is {rows[row, column]} in row {row}",
            remedy="fill missing and infinite values first",
        )
    return rows


def as_training_rows(X: ArrayLike) -> Floats:
    """`as_rows` for `fit`, which needs at least two rows and one column."""
    rows = as_rows(X)
    if rows.shape[0] < 2 or rows.shape[1] < 1:
        raise DetectorError(f"fit needs 2 rows and 1 column or more, got shape {rows.shape}")
    return rows


def as_weights(sample_weight: ArrayLike | None, n_rows: int) -> Floats:
    """Validated row weights, (n_rows,), ones by default: finite, not negative, not all zero."""
    if sample_weight is None:
        return np.ones(n_rows)
    weights = _as_floats(sample_weight)
    if weights.shape != (n_rows,):
        raise DetectorError(f"sample_weight has shape {weights.shape}, the rows need ({n_rows},)")
    if not np.isfinite(weights).all() or weights.min() < 0 or weights.sum() <= 0:
        raise DetectorError("sample_weight must be finite, 0 or more, and positive for some row")
    return weights


def as_labels(y: ArrayLike | None, n_rows: int) -> Floats:
    """
    Validated labels, (n_rows,): 0.0 and 1.0, both of them present.

    Raises
    ------
    DetectorError
        There are no labels, another number of them, a value other than 0 and 1, or only one class.
    """
    if y is None:
        raise DetectorError("a classifier needs y: 1 for fraud, 0 for genuine")
    labels = _as_floats(y)
    if labels.shape != (n_rows,):
        raise DetectorError(f"y has shape {labels.shape}, the rows need ({n_rows},)")
    if not np.isin(labels, (0.0, 1.0)).all():
        raise DetectorError("y must be 1 for fraud or 0 for genuine in every row")
    frauds = int(labels.sum())
    if frauds in (0, n_rows):
        genuine = n_rows - frauds
        raise DetectorError(
            f"a classifier needs both classes, got {frauds} frauds and {genuine} genuine rows"
        )
    return labels


def row_sums(values: Floats, start: float = 0.0) -> Floats:
    """
    `start` plus the sum of each row's values from left to right, (n_rows,).

    The last bits of numpy's row sums depend on the number of rows; the bits of this sum do not.
    """
    total = np.full(values.shape[0], start)
    for column in values.T:
        total += column
    return total


def as_positive_weight(
    positive_weight: float | None, labels: Floats, weights: Floats, at_most: float = POSITIVE_WEIGHT_MAX
) -> float:
    """
    Class weight of a fraud in training; a genuine row has weight 1.

    By default the square root of genuine rows per fraud, at most `at_most`. The cost of a missed fraud enters the
    decision threshold, not the training; here the weight only keeps the few frauds from being outvoted.

    Raises
    ------
    DetectorError
        `positive_weight` is not a finite number above 0.
    """
    if positive_weight is None:
        frauds = float(weights @ labels)
        genuine = float(weights.sum()) - frauds
        return float(np.clip(np.sqrt(genuine / frauds), 1.0, at_most)) if frauds > 0 else 1.0
    if not (np.isfinite(positive_weight) and positive_weight > 0):
        raise DetectorError(f"positive_weight must be a finite number above 0, got {positive_weight}")
    return float(positive_weight)


def probability_of(score: Floats) -> Floats:
    """The logistic function of logits, without overflow."""
    from scipy.special import expit

    return np.asarray(expit(score), dtype=np.float64)


def _as_floats(values: ArrayLike) -> Floats:
    try:
        return np.require(values, dtype=np.float64, requirements="C")
    except (TypeError, ValueError) as error:
        raise DetectorError(f"not an array of numbers: {error}") from error

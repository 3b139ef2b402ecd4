"""
Histograms of columns: the only data that drift metrics need of a reference and of a window.

A `ColumnHistogram` has up to 200 bins of equal frequency, or a bin for every value if there are few; one bin below and one
above the range of the reference; one bin for missing values. Counts of two windows add up to the counts of both, so a window
is read once and small windows are pooled without reading them again. Any sample can be binned and compared.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from detectors.base import DetectorError, Floats, Ints

FINE_BINS = 200  # the KS statistic is then at most 1/200 below that of the rows themselves
COARSE_BINS = 10  # deciles, for PSI and Jensen–Shannon: their conventional thresholds refer to deciles
VALUES_MAX = 20  # so many distinct values are coarse bins of their own
CATEGORIES_MAX = 1_000  # values of a categorical column with a bin of their own
RARE = 0.005  # categories below this share are one coarse bin


@dataclass(frozen=True)
class BinnedSample:
    """
    A sample, or many samples, counted in the bins of a histogram; the last axis is that of the bins.

    Attributes
    ----------
    counts
        (…, b) rows in each bin.
    gaps
        (…, b) sum over a bin's rows of the distance to its upper edge, or to its lower edge in the bin above the range. With
        them the area between two distribution functions is exact unless they cross inside a bin.
    """

    counts: Ints
    gaps: Floats

    def __add__(self, other: "BinnedSample") -> "BinnedSample":
        return BinnedSample(self.counts + other.counts, self.gaps + other.gaps)

    def __sub__(self, other: "BinnedSample") -> "BinnedSample":
        with np.errstate(invalid="ignore"):  # differences of infinite sums are NaN
            return BinnedSample(self.counts - other.counts, self.gaps - other.gaps)

    @property
    def n(self) -> Ints:
        """Number of rows of each sample."""
        rows: Ints = self.counts.sum(axis=-1)
        return rows


@dataclass(frozen=True)
class ColumnHistogram:
    """
    The histogram of one column of the reference.

    Numeric: value x is in bin i when cuts[i − 1] < x ≤ cuts[i]; the last bin is missing. Categorical: cuts are the
    known values with one bin each, followed by one bin for any other value and one for missing.
    """

    cuts: Floats  # ascending; (b − 2,)
    binned: BinnedSample  # (b,)
    spread: float  # standard deviation of the finite values; NaN without any, 0 for a constant
    group: Ints  # (b,) the coarse bin that each bin belongs to
    categorical: bool = False

    @classmethod
    def numeric(cls, column: Floats) -> Self:
        """Fit the bins of a numeric column, which may hold infinities and NaN for missing."""
        finite = column[np.isfinite(column)]
        cuts, group = _numeric_bins(np.sort(finite))
        with np.errstate(over="ignore", invalid="ignore"):
            spread = float(np.std(finite)) if len(finite) else float("nan")
        return cls(cuts, _binned(cuts, column), spread, group)

    @classmethod
    def of_categories(cls, column: Floats) -> Self:
        """Fit the bins of a column of category codes, NaN for missing."""
        values, counts = np.unique(column[~np.isnan(column)], return_counts=True)
        frequent = np.sort(np.argsort(-counts, kind="stable")[:CATEGORIES_MAX])
        cuts, own = values[frequent], counts[frequent]
        rare = own < RARE * len(column)
        places = np.where(rare, 0, np.cumsum(~rare))
        group = np.concatenate((places, [places.max(initial=0) + 1, places.max(initial=0) + 2]))
        bare = cls(
            cuts, BinnedSample(np.zeros(0, np.int64), np.zeros(0)), float("nan"), group, categorical=True
        )
        return cls(cuts, bare.count(column), float("nan"), group, categorical=True)

    @property
    def n(self) -> int:
        """Number of rows of the reference."""
        return int(self.binned.counts.sum())

    @property
    def n_bins(self) -> int:
        """Number of bins, including the outer ones and the one for missing values."""
        return len(self.cuts) + 2

    @property
    def missing_share(self) -> float:
        """Share of missing values; NaN without rows."""
        return float(self.binned.counts[-1] / self.n) if self.n else float("nan")

    def shares_around(self, value: float) -> tuple[float, float]:
        """Shares of the known values of the reference up to a value and from it on, to the precision of a bin; NaN without any."""
        counts, at = self.binned.counts[:-1], int(self.bins(np.array([value]))[0])
        known = float(counts.sum()) or float("nan")
        return float(counts[: at + 1].sum() / known), float(counts[at:].sum() / known)

    @cached_property
    def widths(self) -> Floats:
        """(b,) width of each bin; 0 for those without two edges."""
        with np.errstate(over="ignore"):
            inner = np.diff(self.cuts)
        return np.concatenate(([0.0], inner, [0.0], [0.0])) if len(self.cuts) else np.zeros(2)

    @cached_property
    def _merging(self) -> tuple[Ints, Ints]:
        order = np.argsort(self.group, kind="stable")
        return order, np.flatnonzero(np.diff(self.group[order], prepend=-1))

    def coarse(self, counts: Ints) -> Ints:
        """Counts (…, b) merged into coarse bins."""
        order, starts = self._merging
        merged: Ints = np.add.reduceat(counts[..., order], starts, axis=-1)
        return merged

    def bins(self, column: Floats) -> Ints:
        """The index of the bin of each value, (n,)."""
        return _bins_of_categories(self.cuts, column) if self.categorical else _bins(self.cuts, column)

    def count(self, column: Floats) -> BinnedSample:
        """Count a sample in these bins."""
        if not self.categorical:
            return _binned(self.cuts, column)
        counts = np.bincount(self.bins(column), minlength=self.n_bins)
        return BinnedSample(counts, np.zeros(self.n_bins))

    def count_each(self, column: Floats, cell: Ints, n_cells: int) -> BinnedSample:
        """Count the rows of each cell in these bins, (n_cells, b); `cell` (n,) is the cell of each row."""
        bins = self.bins(column)
        flat = cell * self.n_bins + bins
        shape = n_cells, self.n_bins
        counts: Ints = np.bincount(flat, minlength=n_cells * self.n_bins).reshape(shape)
        if self.categorical:
            return BinnedSample(counts, np.zeros(shape))
        return BinnedSample(
            counts, _sums(flat, _gaps(self.cuts, column, bins), n_cells * self.n_bins).reshape(shape)
        )


@dataclass(frozen=True)
class ReferenceHistograms:
    """Histograms of every column of a reference sample."""

    names: tuple[str, ...]
    histograms: tuple[ColumnHistogram, ...]
    variants: dict[str, Ints] = field(
        default_factory=dict
    )  # counts (total bins,) of subsets of the reference, such as seasons

    def __post_init__(self) -> None:
        if any(
            part.ndim != 1 for each in self.histograms for part in (each.cuts, each.group, each.binned.counts)
        ):
            raise DetectorError("the histogram of a column has arrays of one dimension")
        sizes = [
            len(part)
            for histogram in self.histograms
            for part in (histogram.binned.counts, histogram.binned.gaps, histogram.group)
        ]
        bins = [histogram.n_bins for histogram in self.histograms for _ in range(3)]
        totals = {len(counts) for counts in self.variants.values()} - {sum(bins) // 3}
        if len(self.names) != len(self.histograms) or sizes != bins or totals:
            raise DetectorError(
                f"the names, cuts and counts of a reference of {len(self.names)} features do not fit together"
            )

    @classmethod
    def fit(cls, X: ArrayLike, names: Sequence[str], categorical: Sequence[str] = ()) -> Self:
        """
        Fit a histogram to each column of X (n, d), which may hold infinities and NaN for missing.

        Raises
        ------
        DetectorError
            X is not a numeric matrix with one column per name.
        """
        matrix, coded = as_matrix(X, len(names)), set(categorical)
        columns = (np.ascontiguousarray(column) for column in matrix.T)
        return cls(
            tuple(names),
            tuple(
                ColumnHistogram.of_categories(column) if name in coded else ColumnHistogram.numeric(column)
                for name, column in zip(names, columns, strict=True)
            ),
        )

    @cached_property
    def ends(self) -> Ints:
        """(d − 1,) offsets at which the bins of the next column begin."""
        return np.cumsum([histogram.n_bins for histogram in self.histograms])[:-1]

    def count(self, X: ArrayLike) -> BinnedSample:
        """Count a sample in the bins of all columns, concatenated, (total bins,)."""
        matrix = as_matrix(X, len(self.names))
        each = [
            histogram.count(np.ascontiguousarray(matrix[:, place]))
            for place, histogram in enumerate(self.histograms)
        ]
        return BinnedSample(
            np.concatenate([np.empty(0, np.int64), *(sample.counts for sample in each)]),
            np.concatenate([np.empty(0), *(sample.gaps for sample in each)]),
        )

    def split(self, binned: BinnedSample) -> list[BinnedSample]:
        """Split the result of `count` into columns."""
        if not self.histograms:
            return []
        parts = zip(np.split(binned.counts, self.ends), np.split(binned.gaps, self.ends), strict=True)
        return [BinnedSample(counts, gaps) for counts, gaps in parts]

    def variant(self, name: str) -> "ReferenceHistograms | None":
        """A subset of the reference in the same bins; None if it is not stored. Gaps are estimated from the whole reference."""
        if name not in self.variants:
            return None
        counts = np.split(self.variants[name], self.ends)
        return ReferenceHistograms(
            self.names, tuple(_with_counts(*pair) for pair in zip(self.histograms, counts, strict=True)), {}
        )


def as_matrix(X: ArrayLike, n_columns: int) -> Floats:
    """
    X as a float matrix with `n_columns` columns.

    Raises
    ------
    DetectorError
        X has another shape.
    """
    matrix = np.asarray(X, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[1] != n_columns:
        raise DetectorError(f"the reference has {n_columns} features, got an array of shape {matrix.shape}")
    return matrix


def _with_counts(histogram: ColumnHistogram, counts: Ints) -> ColumnHistogram:
    whole = histogram.binned
    each = np.divide(whole.gaps, whole.counts, out=np.zeros(len(counts)), where=whole.counts > 0)
    return ColumnHistogram(
        histogram.cuts,
        BinnedSample(counts, each * counts),
        histogram.spread,
        histogram.group,
        histogram.categorical,
    )


def _binned(cuts: Floats, column: Floats) -> BinnedSample:
    bins = _bins(cuts, column)
    size = len(cuts) + 2
    return BinnedSample(np.bincount(bins, minlength=size), _sums(bins, _gaps(cuts, column, bins), size))


def _sums(bins: Ints, values: Floats, size: int) -> Floats:
    sums: Floats = np.bincount(bins, values, size).astype(np.float64)
    return sums


def _bins(cuts: Floats, column: Floats) -> Ints:
    bins = np.searchsorted(cuts, column, side="left")
    bins[np.isnan(column)] = len(cuts) + 1
    return bins


def _bins_of_categories(values: Floats, column: Floats) -> Ints:
    place = np.searchsorted(values, column)
    known = (
        values[np.minimum(place, len(values) - 1)] == column if len(values) else np.zeros(len(column), bool)
    )
    return np.where(np.isnan(column), len(values) + 1, np.where(known, place, len(values)))


def _gaps(cuts: Floats, column: Floats, bins: Ints) -> Floats:
    """Distance of each value to the edge of its bin; 0 for missing values, infinite for infinite ones."""
    if not len(cuts):
        return np.zeros(len(column))
    edges = np.concatenate((cuts, cuts[-1:], [np.nan]))
    with np.errstate(over="ignore", invalid="ignore"):
        gaps = np.abs(edges[bins] - column)
    gaps[np.isnan(gaps)] = 0.0
    return gaps


def _numeric_bins(ordered: Floats) -> tuple[Floats, Ints]:
    """Upper edges of the bins; the first is just below the smallest value, so that smaller values have a bin of their own."""
    if not len(ordered):
        return np.empty(0), np.array([0, 1])
    values = ordered[np.append(ordered[1:] != ordered[:-1], True)]
    if len(values) <= VALUES_MAX:
        cuts = np.unique(np.concatenate((_just_under(values), values)))
        return cuts, np.arange(len(cuts) + 2)
    fine = values if len(values) <= FINE_BINS else _quantiles(ordered, FINE_BINS)
    coarse = _quantiles(ordered, COARSE_BINS)
    cuts = np.unique(np.concatenate((_just_under(ordered[:1]), fine, coarse)))
    inner = 1 + np.searchsorted(coarse, cuts[1:])
    return cuts, np.concatenate(([0], inner, [inner[-1] + 1, inner[-1] + 2]))


def _quantiles(ordered: Floats, n: int) -> Floats:
    ranks = np.ceil(np.arange(1, n + 1) * len(ordered) / n).astype(np.int64)
    return np.unique(ordered[ranks - 1])


def _just_under(values: Floats) -> Floats:
    with np.errstate(over="ignore", under="ignore"):  # under the smallest float there is only −inf
        return np.nextafter(values, -np.inf)

"""
What a sample looked like, kept as counts: all that drift needs of a reference, and of a window.

A `Sketch` of a column has up to 200 bins of equal size, or a bin for every value where there are few; one below and one
above everything seen; one for missing values. Counts of two windows add up to the counts of both, so a window is read
once and small ones are pooled without reading them again. Comparing counts never fails on data.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from detectors.base import ArtefactError, DetectorError, Floats, Ints, State

FINE_BINS = 200  # the KS statistic is then at most 1/200 below that of the rows themselves
COARSE_BINS = 10  # deciles, for PSI and Jensen–Shannon: their conventional levels were found with them
VALUES_MAX = 20  # so many distinct values are coarse bins of their own
CATEGORIES_MAX = 1_000  # values of a categorical column with a bin of their own
RARE = 0.005  # categories below this share are one coarse bin


@dataclass(frozen=True)
class Binned:
    """
    A sample in the bins of a sketch, or many samples: all but the last axis are free.

    Attributes
    ----------
    counts
        (…, b) rows in each bin.
    gaps
        (…, b) sum over a bin's rows of the way to its upper edge, to its lower one in the bin above everything: with
        it the area between two distribution functions is exact where they do not cross inside a bin.
    """

    counts: Ints
    gaps: Floats

    def __add__(self, other: "Binned") -> "Binned":
        return Binned(self.counts + other.counts, self.gaps + other.gaps)

    def __sub__(self, other: "Binned") -> "Binned":
        with np.errstate(invalid="ignore"):  # infinite values leave no number behind
            return Binned(self.counts - other.counts, self.gaps - other.gaps)

    @property
    def n(self) -> Ints:
        """Rows of each sample."""
        found: Ints = self.counts.sum(axis=-1)
        return found


@dataclass(frozen=True)
class Sketch:
    """
    One column's reference.

    Numeric: value x is in bin i when cuts[i − 1] < x ≤ cuts[i]; the last bin is missing. Categorical: cuts are the known
    values, one bin each, then one for any other value, then missing.
    """

    cuts: Floats  # ascending; (b − 2,)
    binned: Binned  # (b,)
    spread: float  # standard deviation of the finite values; NaN without any, 0 for a constant
    group: Ints  # (b,) the coarse bin that each bin belongs to
    categorical: bool = False

    @classmethod
    def numeric(cls, column: Floats) -> Self:
        """Sketch numbers, among them NaN for missing and infinities."""
        finite = column[np.isfinite(column)]
        cuts, group = _numeric_bins(np.sort(finite))
        with np.errstate(over="ignore", invalid="ignore"):
            spread = float(np.std(finite)) if len(finite) else float("nan")
        return cls(cuts, _binned(cuts, column), spread, group)

    @classmethod
    def of_categories(cls, column: Floats) -> Self:
        """Sketch codes of categories, NaN for missing."""
        values, counts = np.unique(column[~np.isnan(column)], return_counts=True)
        kept = np.sort(np.argsort(-counts, kind="stable")[:CATEGORIES_MAX])
        cuts, own = values[kept], counts[kept]
        rare = own < RARE * len(column)
        places = np.where(rare, 0, np.cumsum(~rare))
        group = np.concatenate((places, [places.max(initial=0) + 1, places.max(initial=0) + 2]))
        bare = cls(cuts, Binned(np.zeros(0, np.int64), np.zeros(0)), float("nan"), group, categorical=True)
        return cls(cuts, bare.count(column), float("nan"), group, categorical=True)

    @property
    def n(self) -> int:
        """Rows of the reference."""
        return int(self.binned.counts.sum())

    @property
    def n_bins(self) -> int:
        """Bins, the outer ones and the one for missing values among them."""
        return len(self.cuts) + 2

    @property
    def missing_share(self) -> float:
        """Share of missing values; NaN without rows."""
        return float(self.binned.counts[-1] / self.n) if self.n else float("nan")

    @cached_property
    def widths(self) -> Floats:
        """(b,) of the bins; 0 for those without two edges."""
        with np.errstate(over="ignore"):
            inner = np.diff(self.cuts)
        return np.concatenate(([0.0], inner, [0.0], [0.0])) if len(self.cuts) else np.zeros(2)

    @cached_property
    def _merging(self) -> tuple[Ints, Ints]:
        order = np.argsort(self.group, kind="stable")
        return order, np.flatnonzero(np.diff(self.group[order], prepend=-1))

    def coarse(self, counts: Ints) -> Ints:
        """Counts (…, b) in coarse bins."""
        order, starts = self._merging
        merged: Ints = np.add.reduceat(counts[..., order], starts, axis=-1)
        return merged

    def bins(self, column: Floats) -> Ints:
        """The bin of each value, (n,)."""
        return _bins_of_categories(self.cuts, column) if self.categorical else _bins(self.cuts, column)

    def count(self, column: Floats) -> Binned:
        """A sample in these bins."""
        if not self.categorical:
            return _binned(self.cuts, column)
        counts = np.bincount(self.bins(column), minlength=self.n_bins)
        return Binned(counts, np.zeros(self.n_bins))

    def count_each(self, column: Floats, cell: Ints, n_cells: int) -> Binned:
        """Each cell's rows in these bins, (n_cells, b); `cell` says which one a row belongs to."""
        bins = self.bins(column)
        flat = cell * self.n_bins + bins
        shape = n_cells, self.n_bins
        counts: Ints = np.bincount(flat, minlength=n_cells * self.n_bins).reshape(shape)
        if self.categorical:
            return Binned(counts, np.zeros(shape))
        return Binned(
            counts, _sums(flat, _gaps(self.cuts, column, bins), n_cells * self.n_bins).reshape(shape)
        )


@dataclass(frozen=True)
class Reference:
    """What each column looked like in a reference sample."""

    names: tuple[str, ...]
    sketches: tuple[Sketch, ...]
    variants: dict[str, Ints] = field(default_factory=dict)  # counts (total bins,) of parts of it

    @classmethod
    def fit(cls, X: ArrayLike, names: Sequence[str], categorical: Sequence[str] = ()) -> Self:
        """
        Sketch each column of X (n, d), which may hold NaN for missing and infinities.

        Raises
        ------
        DetectorError
            X is not a matrix of numbers with one column a name.
        """
        matrix, coded = as_matrix(X, len(names)), set(categorical)
        columns = (np.ascontiguousarray(column) for column in matrix.T)
        return cls(
            tuple(names),
            tuple(
                Sketch.of_categories(column) if name in coded else Sketch.numeric(column)
                for name, column in zip(names, columns, strict=True)
            ),
        )

    @cached_property
    def ends(self) -> Ints:
        """(d − 1,) where the bins of one column end and those of the next begin."""
        return np.cumsum([sketch.n_bins for sketch in self.sketches])[:-1]

    def count(self, X: ArrayLike) -> Binned:
        """A sample in the bins of every column, side by side, (total bins,)."""
        matrix = as_matrix(X, len(self.names))
        each = [
            sketch.count(np.ascontiguousarray(matrix[:, place])) for place, sketch in enumerate(self.sketches)
        ]
        return Binned(
            np.concatenate([np.empty(0, np.int64), *(one.counts for one in each)]),
            np.concatenate([np.empty(0), *(one.gaps for one in each)]),
        )

    def split(self, binned: Binned) -> list[Binned]:
        """Column by column what `count` put side by side."""
        if not self.sketches:
            return []
        parts = zip(np.split(binned.counts, self.ends), np.split(binned.gaps, self.ends), strict=True)
        return [Binned(counts, gaps) for counts, gaps in parts]

    def variant(self, name: str) -> "Reference | None":
        """A part of the reference in the same bins; None where it is not kept. Gaps are the whole's, by the row."""
        if name not in self.variants:
            return None
        counts = np.split(self.variants[name], self.ends)
        return Reference(
            self.names, tuple(_part(*pair) for pair in zip(self.sketches, counts, strict=True)), {}
        )

    def state(self) -> State:
        """The reference as plain arrays and JSON."""
        whole = [sketch.binned for sketch in self.sketches]
        arrays: dict[str, NDArray[np.float64] | NDArray[np.int64] | NDArray[np.int32]] = {
            "cuts": np.concatenate([np.empty(0), *(sketch.cuts for sketch in self.sketches)]),
            "counts": np.concatenate([np.empty(0, np.int64), *(one.counts for one in whole)]),
            "gaps": np.concatenate([np.empty(0), *(one.gaps for one in whole)]),
            "group": np.concatenate([np.empty(0, np.int64), *(sketch.group for sketch in self.sketches)]),
            "bins": np.array([sketch.n_bins for sketch in self.sketches], dtype=np.int64),
            "spread": np.array([sketch.spread for sketch in self.sketches]),
            "categorical": np.array([sketch.categorical for sketch in self.sketches], dtype=np.int64),
        }
        if self.variants:
            arrays["variants"] = np.stack(list(self.variants.values())).astype(np.int32)
        return State({"names": list(self.names), "variants": list(self.variants)}, arrays)

    @classmethod
    def from_state(cls, state: State) -> Self:
        """
        The reference that `state` was taken from.

        Raises
        ------
        ArtefactError
            The arrays do not belong together, or are those of an older version.
        """
        names, held = tuple(state.meta["names"]), state.arrays
        if "gaps" not in held:
            raise ArtefactError(
                "the model's drift reference is an older version's: train anew with fraudwatch train"
            )
        bins, cuts = held["bins"], held["cuts"]
        total = int(bins.sum())
        lengths = {len(held[part]) for part in ("counts", "gaps", "group")} | {len(cuts) + 2 * len(bins)}
        if not (len(names) == len(bins) == len(held["spread"]) and lengths == {total}):
            raise ArtefactError(
                f"a drift reference of {len(names)} features has {len(held['counts'])} counts and {len(cuts)} cuts, "
                "which do not fit: train anew with fraudwatch train"
            )
        ends = np.cumsum(bins)[:-1]
        parts = (np.split(held[part], ends) for part in ("counts", "gaps", "group"))
        columns = (
            zip(np.split(cuts, ends - 2 * np.arange(1, len(bins))), *parts, strict=True) if names else ()
        )
        sketches = tuple(
            Sketch(cut, Binned(counts, gaps), float(spread), group, bool(categorical))
            for (cut, counts, gaps, group), spread, categorical in zip(
                columns, held["spread"], held["categorical"], strict=True
            )
        )
        kept = state.meta.get("variants", [])
        variants: list[Ints] = list(held["variants"].astype(np.int64)) if kept else []
        return cls(names, sketches, dict(zip(kept, variants, strict=True)))


def as_matrix(X: ArrayLike, n_columns: int) -> Floats:
    """
    X as a float matrix with so many columns.

    Raises
    ------
    DetectorError
        Another shape.
    """
    matrix = np.asarray(X, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[1] != n_columns:
        raise DetectorError(f"the reference has {n_columns} features, got an array of shape {matrix.shape}")
    return matrix


def _part(sketch: Sketch, counts: Ints) -> Sketch:
    whole = sketch.binned
    each = np.divide(whole.gaps, whole.counts, out=np.zeros(len(counts)), where=whole.counts > 0)
    return Sketch(sketch.cuts, Binned(counts, each * counts), sketch.spread, sketch.group, sketch.categorical)


def _binned(cuts: Floats, column: Floats) -> Binned:
    bins = _bins(cuts, column)
    size = len(cuts) + 2
    return Binned(np.bincount(bins, minlength=size), _sums(bins, _gaps(cuts, column, bins), size))


def _sums(bins: Ints, values: Floats, size: int) -> Floats:
    found: Floats = np.bincount(bins, values, size).astype(np.float64)
    return found


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
    """Way of each value to its bin's edge; 0 for what is missing, infinite for what is infinite."""
    if not len(cuts):
        return np.zeros(len(column))
    edges = np.concatenate((cuts, cuts[-1:], [np.nan]))
    with np.errstate(over="ignore", invalid="ignore"):
        gaps = np.abs(edges[bins] - column)
    gaps[np.isnan(gaps)] = 0.0
    return gaps


def _numeric_bins(ordered: Floats) -> tuple[Floats, Ints]:
    """Upper ends of the bins, the first just under the smallest value, so that smaller ones stand apart."""
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

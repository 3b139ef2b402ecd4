"""
Fitting a `Watch`: sketch the reference, and hold each of its windows against the rest to learn what chance does.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from detectors.base import Floats, Ints
from detectors.drift.alarm_calibration import WINDOWS_MIN, Track, calibrate, to_scale
from detectors.drift.domain_classifier import separate, thinned
from detectors.drift.histograms import Binned, Reference, Sketch
from detectors.drift.metrics import SHARES, before_of, effects, metrics, share_effect, to_angle
from detectors.drift.reference import FLAGS_MIN, HOLIDAY, Rows, Usual, Watch, separable_view
from detectors.drift.reference_windows import Grid

SEPARATED = 16  # windows that the classifier is tried on
OTHERS_MIN = 3  # windows of a season that say what is usual for it


@dataclass(frozen=True)
class Scored:
    """What a model says of rows: see `Watch.see`."""

    score: Floats
    channel: Ints
    reason: Ints  # of the rows `explained`
    explained: Ints  # rows, ascending


@dataclass(frozen=True)
class Subject:
    """What a watch is fitted on, rows in time order."""

    names: Sequence[str]
    categorical: Sequence[str]
    columns: Floats  # (n, n_columns)
    scored: Scored  # the same rows: the model has seen them, which says how scores vary, not where they lie
    recent: Scored  # rows it has not seen, which say where scores lie
    recent_cells: int  # how many cells those span
    channels: Sequence[str]
    reason_names: Sequence[str]
    separable: Sequence[int]
    muted: Mapping[str, str]


@dataclass(frozen=True)
class LevelHistory:
    """
    What a level was in the windows of the reference.

    Attributes
    ----------
    values
        (n_cells − width + 1,) of the windows that end after cell width − 1, width, …; NaN where it is not known.
    overall
        What is usual where that is no median, such as a share of all rows.
    n
        Rows or entities of a usual window.
    """

    feature: str
    metric: str
    values: Floats
    n: float
    overall: float = float("nan")


def fit_watch(
    subject: Subject, grid: Grid, levels: Sequence[LevelHistory], min_rows: int, min_effect: float
) -> Watch:
    """
    Sketch a reference and calibrate its alarms.

    Parameters
    ----------
    grid
        Cells of the subject's rows.
    min_rows
        Windows are pooled until they hold so many.
    min_effect
        Smaller changes never alarm.
    """
    special = np.asarray(grid.special, dtype=bool)[grid.cell]
    plain = np.flatnonzero(~special) if not special.all() else np.arange(len(special))
    features = Reference.fit(subject.columns[plain], subject.names, subject.categorical)
    ends = grid.ends()
    first = grid.first(ends, min_rows)
    tracks = [
        *_column_tracks(subject, features, grid, ends, first),
        *_score_tracks(subject, grid, ends, first),
        *_reason_tracks(subject, grid, ends),
        *_separation_track(subject, features, grid, ends, first),
        *(_level_track(history, grid, ends) for history in levels),
    ]
    view = separable_view(features.sketches, subject.separable, thinned(subject.columns[plain]))
    return Watch(
        features=replace(features, variants=_variants(subject, features, grid, special)),
        score=Reference.fit(subject.recent.score.reshape(-1, 1), ["score"]),
        reasons=Reference.fit(subject.recent.reason.reshape(-1, 1), ["reasons"], ["reasons"]),
        reason_names=tuple(subject.reason_names),
        channels=tuple(subject.channels),
        flags=_per_channel(subject.recent.channel, len(subject.channels)),
        separable=tuple(subject.separable),
        rows=view,
        muted=dict(subject.muted),
        levels={(one.feature, one.metric): _usual(one, grid) for one in levels},
        calibration=calibrate(tracks, len(ends), grid.windows_per_week, min_effect),
    )


def _variants(subject: Subject, features: Reference, grid: Grid, special: Floats) -> dict[str, Ints]:
    """Counts of the holidays and, where asked for, of each season."""
    names = np.where(
        special.astype(bool), HOLIDAY, np.asarray(grid.season)[grid.cell] if grid.seasonal else ""
    )
    wanted = [str(name) for name in np.unique(names) if name]
    if not wanted:
        return {}
    codes = np.searchsorted(np.asarray(wanted), names)
    kept = names != ""
    each = [
        sketch.count_each(np.ascontiguousarray(subject.columns[kept, place]), codes[kept], len(wanted)).counts
        for place, sketch in enumerate(features.sketches)
    ]
    return dict(zip(wanted, np.concatenate(each, axis=1), strict=True))


def _column_tracks(
    subject: Subject, features: Reference, grid: Grid, ends: Ints, first: Ints
) -> Iterator[Track]:
    for place, (name, sketch) in enumerate(zip(features.names, features.sketches, strict=True)):
        column = np.ascontiguousarray(subject.columns[:, place])
        yield from _tracks(name, sketch, column, grid, ends, first, counts=name not in subject.muted)


def _tracks(
    name: str, sketch: Sketch, column: Floats, grid: Grid, ends: Ints, first: Ints,
    *, span: int | None = None, only: Sequence[str] = (), counts: bool = True,
) -> Iterator[Track]:  # fmt: skip
    """Every metric of a column in every window."""
    cells = sketch.count_each(column, grid.cell, grid.n_cells)
    current, rest = grid.current(cells, first, ends), grid.rest(cells, first, ends, span)
    found = metrics(sketch, rest, current)
    moved, was = effects(sketch, rest, current, found), before_of(sketch, rest, current)
    for metric, values in found.items():
        if only and metric not in only:
            continue
        deviation = to_angle(values) - to_angle(was[metric]) if metric in SHARES else to_scale(metric, values)
        deviation = np.where((first >= 0) & (rest.n > 0), deviation, np.nan)
        yield Track(name, metric, deviation, moved[metric], *_sizes(rest, current, first), counts=counts)


def _score_tracks(subject: Subject, grid: Grid, ends: Ints, first: Ints) -> Iterator[Track]:
    """The score and the shares of flags, against as few days as they are later compared with."""
    alone, span = replace(grid, seasonal=False), subject.recent_cells
    score = subject.scored.score
    yield from _tracks("score", Sketch.numeric(score), score, alone, ends, first, span=span)
    for place, channel in enumerate(subject.channels):
        flagged = np.bincount(grid.cell[subject.scored.channel == place], minlength=grid.n_cells)
        every = np.bincount(grid.cell, minlength=grid.n_cells)
        cells = Binned(np.stack((every - flagged, flagged), axis=1), np.zeros((grid.n_cells, 2)))
        current, rest = alone.current(cells, first, ends), alone.rest(cells, first, ends, span)
        with np.errstate(invalid="ignore"):
            now, then = current.counts[:, 1] / current.n, rest.counts[:, 1] / rest.n
        deviation = np.where(first >= 0, to_angle(now) - to_angle(then), np.nan)
        sizes = _sizes(rest, current, first)
        yield Track(f"flags:{channel}", "flag_rate", deviation, share_effect(then, now), *sizes)


def _reason_tracks(subject: Subject, grid: Grid, ends: Ints) -> Iterator[Track]:
    scored = subject.scored
    if not len(scored.reason):
        return
    reasons = scored.reason.astype(np.float64)
    of_flags = replace(grid.of(scored.explained), seasonal=False)
    first = of_flags.first(ends, FLAGS_MIN)
    sketch = Sketch.of_categories(reasons)
    wanted = ("jensen_shannon", "cramers_v")
    yield from _tracks("reasons", sketch, reasons, of_flags, ends, first, only=wanted)


def _separation_track(
    subject: Subject, features: Reference, grid: Grid, ends: Ints, first: Ints
) -> Iterator[Track]:
    """The classifier's AUC in some windows; it takes no part in setting the bar."""
    possible = np.flatnonzero(first >= 0)
    some = possible[np.linspace(0, len(possible) - 1, min(SEPARATED, len(possible))).astype(np.int64)]
    if len(some) < WINDOWS_MIN:
        return
    view = separable_view(features.sketches, subject.separable, subject.columns)
    found = [_separated(view, grid, int(first[k]), int(ends[k])) for k in some]
    auc = np.array([np.nan if one is None else one[0] for one in found])
    sizes = [one[1:] for one in found if one is not None]
    if sizes:
        n, m = np.median(np.array(sizes), axis=0)
        yield Track("all features", "auc", auc, 2 * auc - 1, float(n), float(m), counts=False)


def _separated(view: Rows, grid: Grid, first: int, end: int) -> tuple[float, int, int] | None:
    low, high = np.searchsorted(grid.cell, [first, end])
    near, far = np.searchsorted(grid.cell, [first - grid.gap, end + grid.gap])
    rest = thinned(np.concatenate((np.arange(near), np.arange(far, len(view)))))
    before, after = view[rest].astype(np.float64), view[low:high].astype(np.float64)
    found = separate(before, after)
    return None if found is None else (found.auc, len(thinned(before)), len(thinned(after)))


def _level_track(history: LevelHistory, grid: Grid, ends: Ints) -> Track:
    """Each window's level against the middle of the others of its season."""
    scaled = to_scale(history.metric, history.values[ends - grid.width])
    season = np.asarray(grid.season)[ends - 1]
    deviation = scaled - np.array([_others(scaled, season, place) for place in range(len(ends))])
    known = int(np.count_nonzero(~np.isnan(scaled)))
    return Track(history.feature, history.metric, deviation, np.abs(deviation), history.n * known, history.n)


def _others(scaled: Floats, season: Floats, place: int) -> float:
    alike = (season == season[place]) & ~np.isnan(scaled)
    alike[place] = False
    if np.count_nonzero(alike) < OTHERS_MIN:
        alike = ~np.isnan(scaled)
    return float(np.median(scaled[alike])) if alike.any() else float("nan")


def _usual(history: LevelHistory, grid: Grid) -> Usual:
    last = np.arange(grid.width, len(history.values) + grid.width) - 1
    special = np.asarray(grid.special, dtype=bool)[last]
    season = np.where(special, HOLIDAY, np.asarray(grid.season)[last])
    known = ~np.isnan(history.values)
    center: dict[str, float] = {}
    if (known & ~special).any():
        center[""] = float(np.median(history.values[known & ~special]))
    for name in np.unique(season[known]):
        values = history.values[known & (season == name)]
        if len(values) >= OTHERS_MIN or name == HOLIDAY:
            center[str(name)] = float(np.median(values))
    if not np.isnan(history.overall):
        center = {"": history.overall}
    n = int(history.n * np.count_nonzero(known)) if history.n == history.n else 0
    return Usual(center, n)


def _sizes(rest: Binned, current: Binned, first: Ints) -> tuple[float, float]:
    known = first >= 0
    if not known.any():
        return 0.0, 0.0
    return float(np.median(rest.n[known])), float(np.median(current.n[known]))


def _per_channel(channel: Ints, n: int) -> Ints:
    return np.bincount(channel[channel >= 0], minlength=n)

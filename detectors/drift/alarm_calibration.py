"""
From which value on a drift metric is an alarm: what it does without drift decides.

The reference is compared with itself: each of its windows against the rest, days close by left out, as a window is
later compared with the whole. What a metric does then is its *null*: a centre and a scale. All metrics of all features are
brought to that scale, and one bar is set on the largest of them in each window: a false alarm is one however many features
take part in it, so the bar is set for the rate of windows with any.

Deviations live on scales where chance is roughly the same everywhere: the square root of PSI and Jensen–Shannon, which grow
with the square of a change; arcsines of shares; logarithms of volumes, and of distances beyond a twentieth of a standard
deviation, which heavy tails make; the others as they are.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from detectors.base import Floats, State
from detectors.drift.metrics import SHARES, to_angle, to_share

SQUARES = frozenset({"psi", "jensen_shannon"})
LOGARITHMS = frozenset({"payments", "per_entity", "median_delay"})
LEVELS = frozenset({"complete_lag"})
TWO_SIDED = SHARES | LOGARITHMS

NEAR = 0.05  # standard deviations: shorter distances count as they are, longer ones by their logarithm
WINDOWS_MIN = 8  # with fewer windows of the reference nobody knows what is usual
BAR_MIN = 3.0  # scales: whatever the rate that was asked for
OWN_MAX = 5.0  # no null may lie further out than so many of its scales: its own tail counts, not the others'
TAIL = 0.2  # share of the largest values that the tail is fitted to …
TAIL_MIN = 8  # … and at least so many
SLOPE_MIN = 0.5  # scales: least mean excess of that tail; the largest of many normal variables has about 0.35
Q90 = 1.2816  # standard deviations from the median to the 90 % quantile of a normal distribution
FLOOR = {"distance": 0.25, "share": 0.5}  # least scale in 1/√n: about what chance alone does
FEW = 10.0  # windows: with so many the scale of what does not count for the bar is doubled
LOG_FLOOR = 0.02  # least scale of logarithms: two per cent
LAG_FLOOR = 3.0  # days: label files come weekly where they come regularly


@dataclass(frozen=True)
class Track:
    """What one metric of one feature did in the windows of the reference, each compared with the rest; (k,) each."""

    feature: str
    metric: str
    deviation: Floats  # on the metric's scale; signed where both sides count; NaN where not computed
    effect: Floats
    n_reference: float
    n_current: float
    counts: bool = True  # whether it may raise an alarm, and so counts for the bar


@dataclass(frozen=True)
class Null:
    """What a metric does without drift, on its scale, between samples of these sizes."""

    center: float
    scale: float
    n_reference: float
    n_current: float

    def stretch(self, n_reference: float, n_current: float) -> float:
        """How much more chance does between smaller samples; larger ones are not trusted more."""
        chance = 1 / max(n_reference, 1) + 1 / max(n_current, 1)
        usual = 1 / max(self.n_reference, 1) + 1 / max(self.n_current, 1)
        return float(np.sqrt(max(1.0, chance / usual)))


@dataclass(frozen=True)
class Calibration:
    """Nulls of all metrics, and the largest deviation of each window of the reference, in scales."""

    nulls: Mapping[tuple[str, str], Null] = field(default_factory=dict)
    highest: Floats = field(default_factory=lambda: np.empty(0))  # (k,)
    windows_per_week: float = 7.0
    min_effect: float = 0.05

    @property
    def speaks(self) -> bool:
        """Whether the reference was long enough to say what is usual."""
        return len(self.highest) >= WINDOWS_MIN

    def bar(self, per_week: float) -> float:
        """
        Scales beyond which a window alarms falsely so many times a week.

        Where the reference has fewer windows than the rate needs, the largest fifth is continued by an exponential tail
        (peaks over threshold: Pickands 1975), which is cautious: these statistics have lighter tails. The tail's slope
        is itself an estimate from k values, so that the next value follows a Lomax distribution: 1 / (1 + x / kβ)ᵏ.
        """
        ordered = np.sort(self.highest)[::-1]
        share, k = min(1.0, per_week / self.windows_per_week), len(ordered)
        if share * k >= TAIL_MIN:
            return max(BAR_MIN, float(np.quantile(ordered, 1.0 - share)))
        top = min(k - 1, max(TAIL_MIN, round(TAIL * k)))
        beyond = max(SLOPE_MIN, float(np.mean(ordered[:top] - ordered[top])))
        return max(BAR_MIN, float(ordered[top] + top * beyond * ((top / (share * k)) ** (1 / top) - 1)))

    def limits(
        self, feature: str, metric: str, bar: float, before: float, n_reference: float, n_current: float
    ) -> tuple[float, float]:
        """
        The values between which a metric is quiet; NaN where its null is not known.

        Parameters
        ----------
        before
            What a two-sided metric was in the reference; of no matter for distances.
        """
        null = self.nulls.get((feature, metric))
        if null is None or not self.speaks:
            return float("nan"), float("nan")
        stretch = null.stretch(n_reference, n_current)
        if metric not in TWO_SIDED | LEVELS:
            return -np.inf, float(from_scale(metric, (null.center + bar * null.scale) * stretch))
        middle = float(to_scale(metric, before)) + null.center
        if metric in LEVELS:
            return -np.inf, float(from_scale(metric, middle + bar * null.scale))
        return tuple(
            float(from_scale(metric, middle + side * bar * null.scale * stretch)) for side in (-1, 1)
        )  # type: ignore[return-value]

    def state(self) -> State:
        """The calibration as plain arrays and JSON."""
        numbers = [[n.center, n.scale, n.n_reference, n.n_current] for n in self.nulls.values()]
        return State(
            {
                "named": [list(name) for name in self.nulls],
                "windows_per_week": self.windows_per_week,
                "min_effect": self.min_effect,
            },
            {"nulls": np.array(numbers).reshape(-1, 4), "highest": self.highest},
        )

    @classmethod
    def from_state(cls, state: State) -> "Calibration":
        """The calibration that `state` was taken from."""
        named = [(str(feature), str(metric)) for feature, metric in state.meta["named"]]
        nulls = [Null(*(float(value) for value in row)) for row in state.arrays["nulls"]]
        return cls(
            dict(zip(named, nulls, strict=True)),
            state.arrays["highest"],
            state.meta["windows_per_week"],
            state.meta["min_effect"],
        )


def calibrate(
    tracks: Iterable[Track], n_windows: int, windows_per_week: float, min_effect: float
) -> Calibration:
    """
    Nulls of all tracks and the bar's sample over all that may alarm.

    Only changes of `min_effect` or more count for the bar: smaller ones never alarm, however unusual they are.
    """
    nulls: dict[tuple[str, str], Null] = {}
    highest = np.zeros(n_windows)
    for track in tracks:
        null = _null(track)
        if null is None:
            continue
        nulls[track.feature, track.metric] = null
        if track.counts and len(track.deviation) == n_windows:
            apart = (track.deviation - null.center) / null.scale
            apart = np.abs(apart) if track.metric in TWO_SIDED else apart
            seen = ~np.isnan(apart) & (track.effect >= min_effect)
            highest = np.maximum(highest, np.where(seen, apart, 0.0))
    return Calibration(nulls, highest, windows_per_week, min_effect)


def to_scale(metric: str, value: ArrayLike) -> Floats:
    """A metric's values on the scale its deviations are measured on."""
    given = np.asarray(value, dtype=np.float64)
    if metric in SQUARES:
        return np.sqrt(np.maximum(given, 0.0))
    if metric in SHARES:
        return to_angle(given)
    if metric == "wasserstein":
        return np.log1p(np.maximum(given, 0.0) / NEAR)
    return np.log(np.maximum(given, 1e-9)) if metric in LOGARITHMS else given


def from_scale(metric: str, scaled: ArrayLike) -> Floats:
    """Back from `to_scale`."""
    given = np.asarray(scaled, dtype=np.float64)
    if metric in SQUARES:
        return np.square(np.maximum(given, 0.0))
    if metric in SHARES:
        return to_share(given)
    if metric == "wasserstein":
        return np.asarray(np.expm1(np.maximum(given, 0.0)) * NEAR)
    return np.exp(given) if metric in LOGARITHMS else given


def _null(track: Track) -> Null | None:
    known = track.deviation[~np.isnan(track.deviation)]
    if len(known) < WINDOWS_MIN:
        return None
    center = float(np.median(known))
    out = known - center
    if track.metric in TWO_SIDED:
        scale = float(np.quantile(np.abs(out), 0.8)) / Q90  # 80 % lie within ± 1.28 standard deviations
        furthest = float(np.abs(out).max())
    else:
        scale, furthest = float(np.quantile(out, 0.9)) / Q90, float(out.max())
    widest = max(scale, furthest / OWN_MAX, _floor(track))
    if not track.counts:  # nothing else sees its tail: what few windows say of it is taken with care
        widest *= 1 + FEW / len(known)
    return Null(center, widest, track.n_reference, track.n_current)


def _floor(track: Track) -> float:
    if track.metric in LOGARITHMS:
        return LOG_FLOOR
    if track.metric in LEVELS:
        return LAG_FLOOR
    chance = np.sqrt(1 / max(track.n_reference, 1) + 1 / max(track.n_current, 1))
    return float(FLOOR["share" if track.metric in SHARES else "distance"] * chance)

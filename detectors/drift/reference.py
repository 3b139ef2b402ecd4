"""
What a model remembers of its training's transactions, and how a window is held against it.

A `Watch` is kept inside the model: sketches of every column, of the score and of the reasons, shares of flags, a few rows
for the classifier, levels such as the usual volume, and the calibration that says from when on a change is an alarm. `Seen`
is what is kept of a window: it is small, it adds up, and everything is measured from it.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors.base import ArtefactError, Floats, Ints, State
from detectors.drift.alarm_calibration import TWO_SIDED, Calibration, to_scale
from detectors.drift.domain_classifier import ROWS_MIN, separate, thinned
from detectors.drift.histograms import Binned, Reference, Sketch
from detectors.drift.metrics import SHARES, Drift, compare_binned, share_effect
from detectors.evaluation.prevalence import jeffreys

HOLIDAY = "holiday"  # the season of days that are like no others
USUAL = "usual"  # the variant of a reference that holds all of it
FLAGS_MIN = 20  # reasons of fewer flags are no mix
CONFIDENCE = 0.95  # of intervals around shares
QUIET = frozenset({"missing", "out_of_range", "unseen"})  # told only where there are any, before or now
PARTS = ("watch", "watch_features", "watch_score", "watch_reasons", "watch_calibration")

Rows = NDArray[np.float32]


@dataclass(frozen=True)
class Seen:
    """A window's transactions in the bins of a watch; two of them add up to both."""

    features: Binned
    score: Binned
    reasons: Binned  # of flags
    flags: Ints  # (n_channels,)
    rows: Rows  # (r, n_separable) a thinned sample

    @property
    def n(self) -> int:
        """Transactions."""
        return int(self.score.n)

    def __add__(self, other: "Seen") -> "Seen":
        return Seen(
            self.features + other.features,
            self.score + other.score,
            self.reasons + other.reasons,
            self.flags + other.flags,
            np.concatenate((self.rows, other.rows)),
        )

    def to_bytes(self) -> bytes:
        """Compressed, without pickle."""
        content = io.BytesIO()
        parts = {"features": self.features, "score": self.score, "reasons": self.reasons}
        arrays = {f"{name}_counts": one.counts.astype(np.int32) for name, one in parts.items()}
        gaps = {f"{name}_gaps": one.gaps for name, one in parts.items()}
        np.savez_compressed(content, allow_pickle=False, flags=self.flags, rows=self.rows, **arrays, **gaps)
        return content.getvalue()

    @classmethod
    def from_bytes(cls, stored: bytes) -> "Seen":
        """What `to_bytes` was taken from."""
        with np.load(io.BytesIO(stored), allow_pickle=False) as held:
            parts = [
                Binned(held[f"{name}_counts"].astype(np.int64), held[f"{name}_gaps"])
                for name in ("features", "score", "reasons")
            ]
            return cls(parts[0], parts[1], parts[2], held["flags"], held["rows"])


@dataclass(frozen=True)
class Level:
    """One number of a window, such as its volume; `lower` and `upper` where it is a share."""

    feature: str
    metric: str
    value: float
    n: int
    season: str = ""
    why: str = ""


@dataclass(frozen=True)
class Usual:
    """What a level usually is, by season; the season "" stands for any."""

    center: Mapping[str, float]
    n: int


@dataclass(frozen=True)
class Found:
    """A change, the value from which it is an alarm, and whether it is."""

    drift: Drift
    threshold: float
    alarm: bool
    lower: float = float("nan")
    upper: float = float("nan")


@dataclass(frozen=True)
class Terms:
    """
    On which terms a window is judged.

    Attributes
    ----------
    per_week
        False alarms a week that are put up with.
    seasons
        Of the pooled windows: the parts of the reference to hold them against; empty for the whole.
    held_back
        Why no alarm is raised whatever is found; empty where one may be.
    """

    per_week: float
    seasons: Sequence[str] = ()
    held_back: str = ""


@dataclass(frozen=True)
class Watch:
    """See the module."""

    features: Reference
    score: Reference
    reasons: Reference
    reason_names: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    flags: Ints = field(default_factory=lambda: np.empty(0, np.int64))  # (n_channels,) among the score's rows
    separable: tuple[int, ...] = ()  # columns the classifier may look at
    rows: Rows = field(default_factory=lambda: np.empty((0, 0), np.float32))
    muted: Mapping[str, str] = field(default_factory=dict)  # feature → why it is never an alarm
    levels: Mapping[tuple[str, str], Usual] = field(default_factory=dict)
    calibration: Calibration = field(default_factory=Calibration)

    @classmethod
    def blind(cls) -> "Watch":
        """A watch that remembers nothing."""
        nothing = Reference((), ())
        return cls(nothing, nothing, nothing)

    @property
    def sees(self) -> bool:
        """Whether there is anything to compare with."""
        return bool(self.score.sketches)

    def see(self, columns: Floats, score: Floats, channel: Ints, reason: Ints) -> Seen:
        """
        Count a window's transactions.

        Parameters
        ----------
        columns
            (n, n_columns) as at the fit.
        score
            (n,) in [0, 1].
        channel
            (n,) place among `channels` of what was flagged, −1 elsewhere.
        reason
            (n_flags,) place among `reason_names` of each flag's first reason.
        """
        return Seen(
            self.features.count(columns),
            self.score.count(score.reshape(-1, 1)),
            self.reasons.count(reason.reshape(-1, 1).astype(np.float64)),
            np.bincount(channel[channel >= 0], minlength=len(self.channels)),
            self.view(columns),
        )

    def view(self, columns: Floats) -> Rows:
        """What the classifier sees of rows, thinned; a category as the place of its bin."""
        return separable_view(self.features.sketches, self.separable, thinned(columns))

    def holds(self, season: str) -> int:
        """Rows of the reference's part of that name; 0 where there is none."""
        if not self.features.sketches or season not in self.features.variants:
            return 0
        return int(self.features.variants[season][: self.features.sketches[0].n_bins].sum())

    def measure(self, seen: Seen, terms: Terms) -> Iterator[Found]:
        """Every metric of a window against the reference."""
        bar = self.calibration.bar(terms.per_week) if self.calibration.speaks else float("nan")
        for drift in self._changes(seen, terms):
            if not (drift.metric in QUIET and drift.value == 0 and drift.before == 0):
                yield self._judged(drift, bar, terms.held_back)

    def measure_levels(self, levels: Sequence[Level], terms: Terms) -> Iterator[Found]:
        """Levels of a window against what they usually are."""
        bar = self.calibration.bar(terms.per_week) if self.calibration.speaks else float("nan")
        for place, level in enumerate(levels):
            usual = self.levels.get((level.feature, level.metric), Usual({}, 0))
            other = float("nan") if level.season == HOLIDAY else usual.center.get("", float("nan"))
            before = usual.center.get(level.season, other)
            effect = _level_effect(level.metric, before, level.value)
            why = level.why or ("the reference says nothing of it" if np.isnan(before) else "")
            drift = Drift(
                place, level.feature, level.metric, level.value, why, usual.n, level.n, effect, before
            )
            yield self._judged(drift, bar, terms.held_back)

    def _changes(self, seen: Seen, terms: Terms) -> Iterator[Drift]:
        yield from compare_binned(self._part(self.features, terms.seasons), seen.features)
        yield from compare_binned(self._part(self.score, terms.seasons), seen.score)
        yield from self._flag_rates(seen)
        yield from self._reasons(seen)
        yield self._separation(seen)

    def _part(self, whole: Reference, seasons: Sequence[str]) -> Reference:
        """The part of a reference that holds these seasons, or all of it where one of them is not kept."""
        wanted = sorted(set(seasons))
        if not wanted or any(name not in whole.variants for name in wanted):
            return whole
        together = np.sum([whole.variants[name] for name in wanted], axis=0)
        return replace(whole, variants={USUAL: together}).variant(USUAL) or whole

    def _flag_rates(self, seen: Seen) -> Iterator[Drift]:
        n = self.score.sketches[0].n
        for place, channel in enumerate(self.channels):
            value = seen.flags[place] / seen.n if seen.n else float("nan")
            before = self.flags[place] / n if n else float("nan")
            why = "" if seen.n and n else "there are no rows to take a share of"
            effect = float(share_effect(before, value))
            yield Drift(place, f"flags:{channel}", "flag_rate", value, why, n, seen.n, effect, before)

    def _reasons(self, seen: Seen) -> Iterator[Drift]:
        few = int(seen.reasons.n) < FLAGS_MIN
        why = f"{int(seen.reasons.n)} flags, fewer than {FLAGS_MIN}, have no mix of reasons" if few else ""
        for drift in compare_binned(self.reasons, seen.reasons):
            if drift.metric in ("jensen_shannon", "cramers_v"):
                yield replace(drift, value=float("nan"), effect=float("nan"), why=why) if few else drift

    def _separation(self, seen: Seen) -> Drift:
        n, m = len(self.rows), len(seen.rows)
        found = separate(self.rows.astype(np.float64), seen.rows.astype(np.float64))
        if found is None:
            why = f"a classifier needs {ROWS_MIN} rows of each, there are {n:,} and {m:,}"
            return Drift(0, "all features", "auc", float("nan"), why, n, m)
        used = {
            self.features.names[self.separable[place]]: round(share, 3) for place, share in found.used.items()
        }
        effect = max(0.0, 2 * found.auc - 1)
        return Drift(0, "all features", "auc", found.auc, "", n, m, effect, 0.5, detail={"used": used})

    def _judged(self, drift: Drift, bar: float, held_back: str) -> Found:
        n, m = drift.n_reference, drift.n_current
        if drift.metric == "payments":  # chance is that of the number expected: a small one is the finding
            m = 0 if np.isnan(drift.before) else round(drift.before)
        low, high = self.calibration.limits(drift.feature, drift.metric, bar, drift.before, n, m)
        under = drift.metric in TWO_SIDED and drift.value < drift.before
        beyond = drift.value < low if under else drift.value > high
        why = drift.why or self.muted.get(drift.feature, "") or held_back
        if not why and np.isnan(high):
            why = "the reference is too short to say what is usual"
        alarm = bool(beyond and not why and drift.effect >= self.calibration.min_effect)
        lower, upper = _interval(drift.value, m) if drift.metric in SHARES else (float("nan"),) * 2
        return Found(replace(drift, why=why), low if under else high, alarm, lower, upper)

    def states(self) -> dict[str, State]:
        """All of it as plain arrays and JSON, part by part."""
        meta = {
            "reason_names": list(self.reason_names),
            "channels": list(self.channels),
            "muted": dict(self.muted),
            "levels": [
                [feature, metric, dict(usual.center), usual.n]
                for (feature, metric), usual in self.levels.items()
            ],
        }
        arrays: dict[str, NDArray[Any]] = {
            "flags": self.flags,
            "separable": np.array(self.separable, np.int64),
            "rows": self.rows,
        }
        own = [State(meta, arrays), self.features.state(), self.score.state(), self.reasons.state()]
        return dict(zip(PARTS, [*own, self.calibration.state()], strict=True))

    @classmethod
    def from_states(cls, states: Mapping[str, State]) -> "Watch":
        """
        The watch that `states` were taken from; a blind one for a model that was stored without.

        Raises
        ------
        ArtefactError
            A part is missing.
        """
        if "watch" not in states:
            return cls.blind()
        if any(part not in states for part in PARTS):
            raise ArtefactError("the model's drift reference is incomplete: train anew with fraudwatch train")
        own = states["watch"]
        levels = {
            (str(feature), str(metric)): Usual(center, int(n))
            for feature, metric, center, n in own.meta["levels"]
        }
        features, score, reasons = (Reference.from_state(states[part]) for part in PARTS[1:4])
        return cls(
            features,
            score,
            reasons,
            reason_names=tuple(own.meta["reason_names"]),
            channels=tuple(own.meta["channels"]),
            flags=own.arrays["flags"],
            separable=tuple(int(one) for one in own.arrays["separable"]),
            rows=own.arrays["rows"],
            muted=own.meta["muted"],
            levels=levels,
            calibration=Calibration.from_state(states["watch_calibration"]),
        )


def separable_view(sketches: Sequence[Sketch], separable: Sequence[int], columns: Floats) -> Rows:
    """The columns a classifier may look at, in single precision."""
    view = np.empty((len(columns), len(separable)), np.float32)
    for place, column in enumerate(separable):
        sketch = sketches[column]
        values = np.ascontiguousarray(columns[:, column])
        with np.errstate(over="ignore"):
            view[:, place] = sketch.bins(values) if sketch.categorical else values
    return view


def _level_effect(metric: str, before: float, value: float) -> float:
    if metric in SHARES:
        return float(share_effect(before, value))
    return float(abs(to_scale(metric, value) - to_scale(metric, before)))


def _interval(share: float, n: int) -> tuple[float, float]:
    """Jeffreys' interval of a share of n rows."""
    if not n or np.isnan(share):
        return float("nan"), float("nan")
    return jeffreys(share * n, n, 1 - CONFIDENCE)

"""
Which features there are: a catalogue made from the configured fields.

A *raw* column is a pure function of a transaction and the stored rows; a *feature* is what detectors see
after the model's encoder turned pairs of counts into rates and hashes into frequencies. Both lists come from
here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

from detectors.inputs.encoding import EncodingPlan
from detectors.inputs.sample import Layout
from pipeline.durations import format_duration

# Pairs grow with the square of the entities: the first four give six pairs.
PAIRED_ENTITIES_MAX = 4

AMOUNTS = ("amount", "log_amount")
HOLIDAY = "is_holiday"
CLOCK = ("hour_sin", "hour_cos", "weekday_sin", "weekday_cos", "weekend", "night")
# Of an entity over a window, in the order of their raw columns.
WINDOW_COLUMNS = (
    "count",
    "amount_mean",
    "amount_spread",
    "amount_deviation",
    "amount_ratio",
    "matured_frauds",
    "matured_known",
    "known_frauds",
)


@dataclass(frozen=True)
class Feature:
    """
    A column that detectors see.

    Attributes
    ----------
    code
        What kind of fact it is, for reasons; stable.
    entity
        The entity column it speaks of, "a+b" for a pair, None for the transaction itself.
    window
        How far it looks back, in µs.
    label_free
        Known without any label.
    usual
        The raw column that holds what is usual for the entity.
    outlier
        Looked at by the outlier detector: label-free and, but for the amount, relative to the payer's own past.
    """

    name: str
    code: str
    entity: str | None = None
    window: int | None = None  # µs
    family: str = "field"
    unit: str = ""
    label_free: bool = True
    usual: str | None = None
    outlier: bool = False


@dataclass(frozen=True)
class Plan:
    """
    The raw columns, the features, and the way from one to the other.

    `raw_names[i]` names column i of `raw_features`; `features[j]` describes column j of the encoder.
    """

    entities: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    windows: tuple[int, ...]  # µs, ascending
    night: tuple[int, int]  # first and last hour
    holidays: tuple[str, ...] = ()
    timezone: str = "UTC"  # in which holidays are days
    raw_names: tuple[str, ...] = ()
    features: tuple[Feature, ...] = ()
    encoding: EncodingPlan = field(default_factory=EncodingPlan)

    @property
    def layout(self) -> Layout:
        """The way to features, and which of them the outlier detector looks at."""
        return Layout(self.encoding, tuple(n for n, one in enumerate(self.features) if one.outlier))


def plan(
    entities: Sequence[str],
    numeric: Sequence[str],
    categorical: Sequence[str],
    windows: Sequence[int],
    night: tuple[int, int],
    holidays: Sequence[str] = (),
    timezone: str = "UTC",
) -> Plan:
    """
    The catalogue of these fields and windows.

    "First seen together" is asked of the pairs among the first `PAIRED_ENTITIES_MAX` entities.

    Raises
    ------
    ValueError
        No window, or windows that are not positive and ascending.
    """
    if not windows or windows[0] <= 0 or sorted(set(windows)) != list(windows):
        raise ValueError(f"features.windows must be positive and ascending, got {list(windows)} µs")
    pairs = tuple(combinations(entities[:PAIRED_ENTITIES_MAX], 2))
    bare = Plan(
        tuple(entities),
        pairs,
        tuple(numeric),
        tuple(categorical),
        tuple(windows),
        (night[0], night[1]),
        tuple(holidays),
        timezone,
    )
    numbers, rates, categories = list(_numbers(bare)), list(_rates(bare)), list(_categories(bare))
    hashes = [f"{name}_hash" for name in bare.categorical]
    own = [*_own_columns(bare), *hashes, *(feature.name for feature in rates + categories)]
    fields = [Feature(name, "FIELD_VALUE") for name in _distinct(bare.numeric, own)]
    raw_names = (*_own_columns(bare), *(feature.name for feature in fields), *hashes)
    return replace(
        bare,
        raw_names=raw_names,
        features=(*numbers, *fields, *rates, *categories),
        encoding=_encoding(bare, raw_names, numbers + fields, rates),
    )


def column(entity: str, what: str, window: int) -> str:
    """Name of an entity's column over a window: customer_id_count_7d."""
    return f"{entity}_{what}_{format_duration(window)}"


def _own_columns(bare: Plan) -> Iterator[str]:
    """Raw columns before the user's fields."""
    yield from AMOUNTS
    yield from _clock(bare)
    for entity in bare.entities:
        for window in bare.windows:
            yield from (column(entity, what, window) for what in WINDOW_COLUMNS)
        yield f"{entity}_seconds_since_last"
    yield from (f"{first}_with_{second}_first_seen" for first, second in bare.pairs)


def _clock(bare: Plan) -> tuple[str, ...]:
    """Without holidays there is no such column, so that models trained before there were any see what they saw."""
    return (*CLOCK, HOLIDAY) if bare.holidays else CLOCK


def _distinct(names: Sequence[str], taken: Sequence[str]) -> list[str]:
    """A field of the user's that is called like a column of ours gets "_field" added."""
    used = set(taken)
    free: list[str] = []
    for name in names:
        while name in used:
            name += "_field"  # noqa: PLW2901
        used.add(name)
        free.append(name)
    return free


def _numbers(bare: Plan) -> Iterator[Feature]:
    """What passes through as it is, in the order of the raw columns; numeric fields not included."""
    # The outlier detector gets amount and ratio as they are: the isolation forest's average precision on two weeks of the
    # Handbook data is .33 with them and .22 with their logarithms, whose small values it isolates, too.
    yield Feature("amount", "AMOUNT", family="amount", unit="currency", outlier=True)
    yield Feature("log_amount", "AMOUNT", family="amount", unit="log")
    yield from (Feature(name, "TIME_OF_DAY", family="time") for name in _clock(bare))
    for entity in bare.entities:
        for window in bare.windows:
            yield from _over_window(bare, entity, window)
        yield Feature(
            f"{entity}_seconds_since_last", "RECENT_ACTIVITY", entity, family="recency", unit="seconds"
        )
    for first, second in bare.pairs:
        yield Feature(
            f"{first}_with_{second}_first_seen", "NEW_PAIR", f"{first}+{second}", family="pair", unit="flag"
        )


def _over_window(bare: Plan, entity: str, window: int) -> Iterator[Feature]:
    mean = column(entity, "amount_mean", window)
    # The first entity is the payer. One look at what is usual for it is enough: correlated copies of it over other
    # windows, or of other entities, drown the amount (docs/novelty.md has the comparison).
    payers = entity == bare.entities[0] and window == bare.windows[-1]

    def feature(what: str, code: str, family: str, **more: object) -> Feature:
        described = Feature(column(entity, what, window), code, entity, window, family)
        return replace(described, **more)  # type: ignore[arg-type]

    yield feature("count", "VELOCITY", "velocity", unit="payments")
    yield feature("amount_mean", "USUAL_AMOUNT", "usual", unit="currency")
    yield feature("amount_spread", "AMOUNT_SPREAD", "usual", unit="log")
    yield feature("amount_deviation", "AMOUNT_ABOVE_USUAL", "deviation", unit="deviations", usual=mean)
    yield feature(
        "amount_ratio", "AMOUNT_AGAINST_MEAN", "deviation", unit="ratio", usual=mean, outlier=payers
    )
    yield feature("known_frauds", "KNOWN_FRAUD", "label", unit="frauds", label_free=False)


def _rates(bare: Plan) -> Iterator[Feature]:
    for entity in bare.entities:
        for window in bare.windows:
            name = column(entity, "fraud_rate", window)
            yield Feature(name, "FRAUD_HISTORY", entity, window, "label", unit="share", label_free=False)


def _categories(bare: Plan) -> Iterator[Feature]:
    for name in bare.categorical:
        yield Feature(f"{name}_frequency", "CATEGORY", family="category", unit="share")
        yield Feature(f"{name}_fraud_rate", "CATEGORY", family="category", unit="share", label_free=False)


def _encoding(
    bare: Plan, raw_names: tuple[str, ...], passthrough: list[Feature], rates: list[Feature]
) -> EncodingPlan:
    at = {name: place for place, name in enumerate(raw_names)}
    pairs = []
    for rate in rates:
        assert rate.entity is not None
        assert rate.window is not None
        frauds = at[column(rate.entity, "matured_frauds", rate.window)]
        pairs.append((rate.name, frauds, at[column(rate.entity, "matured_known", rate.window)]))
    first = len(raw_names) - len(bare.categorical)
    return EncodingPlan(
        passthrough=tuple((feature.name, at[feature.name]) for feature in passthrough),
        rates=tuple(pairs),
        categories=tuple((name, first + place) for place, name in enumerate(bare.categorical)),
    )

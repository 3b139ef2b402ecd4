"""
The feature catalogue: which features the configured fields and windows give.

A *raw* column is a pure function of a transaction and the stored rows. A *feature* is a column that detectors
see, after the model's encoder has turned pairs of counts into rates and hashes into frequencies. The catalogue
lists both.
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
# The columns of an entity over a window, in the order of their raw columns.
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
        The kind of fact, as reasons name it; stable.
    entity
        The entity column it describes, "a+b" for a pair, None for the transaction itself.
    window
        How far it looks back, in µs.
    label_free
        True if it is computed without labels.
    usual
        The raw column that holds the entity's usual value.
    outlier
        True if the outlier detector uses it: label-free and, except for the amount, relative to the payer's own past.
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
class FeatureCatalogue:
    """
    The raw columns, the features, and the encoding from one to the other.

    `raw_names[i]` names column i of `raw_features`; `features[j]` describes column j of the encoder.
    """

    entities: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    windows: tuple[int, ...]  # µs, ascending
    night: tuple[int, int]  # first and last hour
    holidays: tuple[str, ...] = ()
    timezone: str = "UTC"  # of the holidays
    raw_names: tuple[str, ...] = ()
    features: tuple[Feature, ...] = ()
    encoding: EncodingPlan = field(default_factory=EncodingPlan)

    @property
    def layout(self) -> Layout:
        """The encoding, and the features that the outlier detector sees."""
        columns = [place for place, feature in enumerate(self.features) if feature.outlier]
        return Layout.of_columns(self.encoding, columns)


def build_catalogue(
    entities: Sequence[str],
    numeric: Sequence[str],
    categorical: Sequence[str],
    windows: Sequence[int],
    night: tuple[int, int],
    holidays: Sequence[str] = (),
    timezone: str = "UTC",
) -> FeatureCatalogue:
    """
    Build the catalogue of these fields and windows.

    The first `PAIRED_ENTITIES_MAX` entities give the pairs whose first payment together is a feature.

    Raises
    ------
    ValueError
        There is no window, or the windows are not positive and ascending.
    """
    if not windows or windows[0] <= 0 or sorted(set(windows)) != list(windows):
        raise ValueError(f"features.windows must be positive and ascending, got {list(windows)} µs")
    pairs = tuple(combinations(entities[:PAIRED_ENTITIES_MAX], 2))
    base = FeatureCatalogue(
        tuple(entities),
        pairs,
        tuple(numeric),
        tuple(categorical),
        tuple(windows),
        (night[0], night[1]),
        tuple(holidays),
        timezone,
    )
    numbers, rates, categories = (
        list(_passthrough_features(base)),
        list(_rate_features(base)),
        list(_category_features(base)),
    )
    hashes = [f"{name}_hash" for name in base.categorical]
    reserved = [*_base_columns(base), *hashes, *(feature.name for feature in rates + categories)]
    fields = [Feature(name, "FIELD_VALUE") for name in _without_collisions(base.numeric, reserved)]
    raw_names = (*_base_columns(base), *(feature.name for feature in fields), *hashes)
    return replace(
        base,
        raw_names=raw_names,
        features=(*numbers, *fields, *rates, *categories),
        encoding=_encoding(base, raw_names, numbers + fields, rates),
    )


def column_name(entity: str, statistic: str, window: int) -> str:
    """Name of an entity's column over a window, for example customer_id_count_7d."""
    return f"{entity}_{statistic}_{format_duration(window)}"


def _base_columns(base: FeatureCatalogue) -> Iterator[str]:
    """Raw columns that come before the user's fields."""
    yield from AMOUNTS
    yield from _clock_columns(base)
    for entity in base.entities:
        for window in base.windows:
            yield from (column_name(entity, statistic, window) for statistic in WINDOW_COLUMNS)
        yield f"{entity}_seconds_since_last"
    yield from (f"{first}_with_{second}_first_seen" for first, second in base.pairs)


def _clock_columns(base: FeatureCatalogue) -> tuple[str, ...]:
    """Time columns; the holiday column exists only with holidays, so that older models still get the columns they know."""
    return (*CLOCK, HOLIDAY) if base.holidays else CLOCK


def _without_collisions(names: Sequence[str], taken: Sequence[str]) -> list[str]:
    """Append "_field" to a user's field that has the name of one of our columns."""
    used = set(taken)
    free: list[str] = []
    for name in names:
        while name in used:
            name += "_field"  # noqa: PLW2901
        used.add(name)
        free.append(name)
    return free


def _passthrough_features(base: FeatureCatalogue) -> Iterator[Feature]:
    """Features that equal a raw column, in the order of the raw columns, without the numeric fields."""
    # The outlier detector uses amount and ratio without logarithms: the isolation forest's average precision on two
    # weeks of the Handbook data is .33 with them and .22 with logarithms, because it then isolates small values, too.
    yield Feature("amount", "AMOUNT", family="amount", unit="currency", outlier=True)
    yield Feature("log_amount", "AMOUNT", family="amount", unit="log")
    yield from (Feature(name, "TIME_OF_DAY", family="time") for name in _clock_columns(base))
    for entity in base.entities:
        for window in base.windows:
            yield from _window_features(base, entity, window)
        yield Feature(
            f"{entity}_seconds_since_last", "RECENT_ACTIVITY", entity, family="recency", unit="seconds"
        )
    for first, second in base.pairs:
        yield Feature(
            f"{first}_with_{second}_first_seen", "NEW_PAIR", f"{first}+{second}", family="pair", unit="flag"
        )


def _window_features(base: FeatureCatalogue, entity: str, window: int) -> Iterator[Feature]:
    mean = column_name(entity, "amount_mean", window)
    # The first entity is the payer. The outlier detector uses one ratio to the payer's mean only: correlated copies over
    # other windows or entities drown the amount (docs/novelty.md has the comparison).
    is_payer_baseline = entity == base.entities[0] and window == base.windows[-1]

    def feature(statistic: str, code: str, family: str, **more: object) -> Feature:
        described = Feature(column_name(entity, statistic, window), code, entity, window, family)
        return replace(described, **more)  # type: ignore[arg-type]

    yield feature("count", "VELOCITY", "velocity", unit="payments")
    yield feature("amount_mean", "USUAL_AMOUNT", "usual", unit="currency")
    yield feature("amount_spread", "AMOUNT_SPREAD", "usual", unit="log")
    yield feature("amount_deviation", "AMOUNT_ABOVE_USUAL", "deviation", unit="deviations", usual=mean)
    yield feature(
        "amount_ratio",
        "AMOUNT_AGAINST_MEAN",
        "deviation",
        unit="ratio",
        usual=mean,
        outlier=is_payer_baseline,
    )
    yield feature("known_frauds", "KNOWN_FRAUD", "label", unit="frauds", label_free=False)


def _rate_features(base: FeatureCatalogue) -> Iterator[Feature]:
    for entity in base.entities:
        for window in base.windows:
            name = column_name(entity, "fraud_rate", window)
            yield Feature(name, "FRAUD_HISTORY", entity, window, "label", unit="share", label_free=False)


def _category_features(base: FeatureCatalogue) -> Iterator[Feature]:
    for name in base.categorical:
        yield Feature(f"{name}_frequency", "CATEGORY", family="category", unit="share")
        yield Feature(f"{name}_fraud_rate", "CATEGORY", family="category", unit="share", label_free=False)


def _encoding(
    base: FeatureCatalogue, raw_names: tuple[str, ...], passthrough: list[Feature], rates: list[Feature]
) -> EncodingPlan:
    at = {name: place for place, name in enumerate(raw_names)}
    pairs = []
    for rate in rates:
        assert rate.entity is not None
        assert rate.window is not None
        frauds = at[column_name(rate.entity, "matured_frauds", rate.window)]
        pairs.append((rate.name, frauds, at[column_name(rate.entity, "matured_known", rate.window)]))
    first = len(raw_names) - len(base.categorical)
    return EncodingPlan(
        passthrough=tuple((feature.name, at[feature.name]) for feature in passthrough),
        rates=tuple(pairs),
        categories=tuple((name, first + place) for place, name in enumerate(base.categorical)),
    )

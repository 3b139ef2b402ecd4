"""
The feature catalogue: which features the configured fields and windows give.

A *raw* column is a pure function of a transaction and the stored rows. A *feature* is a column that detectors
see, after the model's encoder has turned pairs of counts into rates and hashes into frequencies. The catalogue
lists both, from the tables of `pipeline.features.columns`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, product
from typing import Any

from detectors.base import ArtifactError
from detectors.inputs.encoding import EncodingPlan
from detectors.inputs.sample import FeatureGroup, Layout
from pipeline.durations import format_duration
from pipeline.features.columns import (
    ENTITY_COLUMNS,
    FIELD_COLUMNS,
    FRAUD_COLUMNS,
    HOLIDAY_COLUMNS,
    PAIR_COLUMNS,
    PAYMENT_COLUMNS,
    WINDOW_COLUMNS,
    WINDOW_RATES,
    Column,
    PaymentRows,
)
from pipeline.features.fraud_history import KnownFrauds

# Pairs grow with the square of the entities: the first four give six pairs.
PAIRED_ENTITIES_MAX = 4


@dataclass(frozen=True)
class Feature:
    """
    A column that detectors see; `pipeline.features.columns` explains what both have in common.

    Attributes
    ----------
    entity
        The entity column it describes, "a+b" for a pair, None for the transaction itself.
    window
        How far it looks back, in µs.
    usual
        The raw column that holds the entity's usual value.
    """

    name: str
    code: str
    entity: str | None = None
    window: int | None = None  # µs
    label_free: bool = True
    period: int | None = None  # µs
    usual: str | None = None


@dataclass(frozen=True)
class Family:
    """
    Label-free features that one outlier detector sees together.

    Attributes
    ----------
    codes
        Codes of the features; all if empty.
    longest
        Of features over windows, only those over the longest: those over shorter ones say nearly the same.
    without
        Names of features that are left out.
    distinct
        Whether columns that say the same as another are found in training and left out; only users' fields need it.
    """

    name: str
    codes: tuple[str, ...] = ()
    longest: bool = False
    without: tuple[str, ...] = ()
    distinct: bool = False


# The first is what single outlier detectors see. The amount is without its logarithm there: an isolation forest on logarithms
# isolates small amounts, too. "everything" detects what is rare only in features of several families together.
FAMILIES = (
    Family("amount", ("AMOUNT", "AMOUNT_AGAINST_MEAN"), longest=True, without=("log_amount",)),
    Family("usual", ("USUAL_AMOUNT", "AMOUNT_SPREAD")),
    Family("deviation", ("AMOUNT_ABOVE_USUAL", "AMOUNT_AGAINST_MEAN"), longest=True),
    Family("velocity", ("VELOCITY",)),
    Family("recency", ("RECENT_ACTIVITY",)),
    Family("pair", ("NEW_PAIR",)),
    Family("category", ("CATEGORY",), distinct=True),
    Family("field", ("FIELD_VALUE",), distinct=True),
    Family("time", ("TIME_OF_DAY",)),
    Family("everything"),
)

# An amount equal to a field has a ratio in the middle of all ratios: trees can cut it out, an outlier detector cannot.
FOR_CLASSIFIERS = frozenset({"AMOUNT_AGAINST_FIELD"})


@dataclass(frozen=True)
class FeatureCatalogue:
    """
    The raw columns, the features, and the encoding from one to the other.

    `raw_names[i]` names column i of `raw_features`; `features[j]` describes column j of the encoder. `computed` are all
    columns that are computed for these fields: those of a stored model (`of_model`) are some of them, in its own order.
    """

    entities: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    windows: tuple[int, ...]  # µs, ascending
    night: tuple[int, int]  # first and last hour
    holidays: tuple[str, ...] = ()
    timezone: str = "UTC"  # of the holidays
    initiated_by: str = ""  # the field that says who initiated a payment
    merchant_initiated: tuple[str, ...] = ()  # its values, in any case, for recurring and retried payments
    fraud_span: int = 0  # µs that known frauds are counted back; 0 for models that were trained without
    raw_names: tuple[str, ...] = ()
    features: tuple[Feature, ...] = ()
    encoding: EncodingPlan = field(default_factory=EncodingPlan)
    computed: tuple[str, ...] = ()

    @property
    def layout(self) -> Layout:
        """The encoding, and the families of features that outlier detectors see; those without a feature are left out."""
        of_families = [(family, self._members(family)) for family in FAMILIES]
        groups = [
            FeatureGroup(family.name, columns, family.distinct) for family, columns in of_families if columns
        ]
        return Layout(self.encoding, tuple(groups))

    def _members(self, family: "Family") -> tuple[int, ...]:
        """Positions of the family's features."""
        longest = self.windows[-1]
        return tuple(
            place
            for place, feature in enumerate(self.features)
            if feature.label_free
            and feature.code not in FOR_CLASSIFIERS
            and (not family.codes or feature.code in family.codes)
            and (not family.longest or feature.window in (None, longest))
            and feature.name not in family.without
        )

    @property
    def fraud_columns(self) -> tuple[Column[KnownFrauds], ...]:
        """The columns of an entity's known frauds."""
        return FRAUD_COLUMNS if self.fraud_span else ()

    @property
    def payment_columns(self) -> tuple[Column[PaymentRows], ...]:
        """The columns of the payment itself."""
        return (*PAYMENT_COLUMNS, *HOLIDAY_COLUMNS) if self.holidays else PAYMENT_COLUMNS

    def of_model(self, columns: Sequence[str], encoding: EncodingPlan) -> "FeatureCatalogue":
        """
        Choose the raw columns and features of a stored model by name, in the order of its training.

        A user's field that has been renamed since, because a new column took its name, is found by the field.

        Raises
        ------
        ArtifactError
            One of them is not computed any more.
        """
        fields = dict(zip(self.numeric, self.computed[len(self.computed) - self._fields :], strict=False))
        renamed = {name: now for name, now in fields.items() if now not in columns}
        features = {feature.name: feature for feature in self.features}
        names = [renamed.get(name, name) for name in columns]
        of_features = [renamed.get(name, name) for name in encoding.names]
        for name in [*(set(names) - set(self.computed)), *(set(of_features) - set(features))]:
            raise ArtifactError(
                f"the model was trained on the column {name}, which is not computed any more",
                remedy="install the version that trained it, or train a new model",
            )
        return replace(
            self,
            raw_names=tuple(names),
            features=tuple(features[name] for name in of_features),
            encoding=encoding,
        )

    @property
    def _fields(self) -> int:
        """The number of the user's own columns, which are the last."""
        return len(self.numeric) + len(self.categorical)


def build_catalogue(
    entities: Sequence[str],
    numeric: Sequence[str],
    categorical: Sequence[str],
    windows: Sequence[int],
    night: tuple[int, int],
    holidays: Sequence[str] = (),
    timezone: str = "UTC",
    initiated_by: str = "",
    merchant_initiated: Sequence[str] = (),
    fraud_span: int = 0,
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
    base = FeatureCatalogue(
        entities=tuple(entities),
        pairs=tuple(combinations(entities[:PAIRED_ENTITIES_MAX], 2)),
        numeric=tuple(numeric),
        categorical=tuple(categorical),
        windows=tuple(windows),
        night=(night[0], night[1]),
        holidays=tuple(holidays),
        timezone=timezone,
        initiated_by=initiated_by,
        merchant_initiated=tuple(merchant_initiated) if initiated_by else (),
        fraud_span=fraud_span,
    )
    columns, rates, categories = list(_columns(base)), list(_rates(base)), list(_categories(base))
    hashes = [f"{name}_hash" for name in base.categorical]
    learned = [*(rate for rate, _, _ in rates), *categories]
    against = [(name, column) for name in base.numeric for column in FIELD_COLUMNS]
    reserved = [
        *hashes,
        *(feature.name for feature in (*columns, *learned)),
        *(f"{column.name}_{name}" for name, column in against),
    ]
    free = dict(zip(base.numeric, _without_collisions(base.numeric, reserved), strict=True))
    columns += [_feature(f"{column.name}_{name}", column, usual=free[name]) for name, column in against]
    columns += [Feature(name, "FIELD_VALUE") for name in free.values()]
    at = {name: place for place, name in enumerate([*(column.name for column in columns), *hashes])}
    numbers = [column for column in columns if column.code]
    encoding = EncodingPlan(
        passthrough=tuple((feature.name, at[feature.name]) for feature in numbers),
        rates=tuple((rate.name, at[positives], at[total]) for rate, positives, total in rates),
        categories=tuple((name, at[hashed]) for name, hashed in zip(base.categorical, hashes, strict=True)),
    )
    features = (*numbers, *learned)
    return replace(base, raw_names=tuple(at), features=features, encoding=encoding, computed=tuple(at))


def column_name(entity: str, statistic: str, window: int) -> str:
    """Name of an entity's column over a window, for example customer_id_count_7d."""
    return f"{entity}_{statistic}_{format_duration(window)}"


def _columns(base: FeatureCatalogue) -> Iterator[Feature]:
    """The raw columns that come before the user's fields, in their order; those without a code are no features."""
    for payment in base.payment_columns:
        yield _feature(payment.name, payment)
    for entity in base.entities:
        for window in base.windows:
            for over in WINDOW_COLUMNS:
                usual = column_name(entity, over.usual, window) if over.usual else None
                name = column_name(entity, over.name, window)
                yield _feature(name, over, entity, window, usual=usual)
        for column in ENTITY_COLUMNS:
            yield _feature(f"{entity}_{column.name}", column, entity)
        for known in base.fraud_columns:
            yield _feature(f"{entity}_{known.name}", known, entity, base.fraud_span)
    for first, second in base.pairs:
        for column in PAIR_COLUMNS:
            yield _feature(f"{first}_with_{second}_{column.name}", column, f"{first}+{second}")


def _feature(
    name: str,
    column: Column[Any],
    entity: str | None = None,
    window: int | None = None,
    *,
    usual: str | None = None,
) -> Feature:
    return Feature(name, column.code, entity, window, column.label_free, column.period, usual)


def _rates(base: FeatureCatalogue) -> Iterator[tuple[Feature, str, str]]:
    """Each rate, with the names of the columns of its positives and of its total."""
    for entity, window, rate in product(base.entities, base.windows, WINDOW_RATES):
        feature = Feature(column_name(entity, rate.name, window), rate.code, entity, window, label_free=False)
        yield feature, column_name(entity, rate.positives, window), column_name(entity, rate.total, window)


def _categories(base: FeatureCatalogue) -> Iterator[Feature]:
    for name in base.categorical:
        yield Feature(f"{name}_frequency", "CATEGORY")
        yield Feature(f"{name}_fraud_rate", "CATEGORY", label_free=False)


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

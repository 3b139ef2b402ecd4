"""
What two keys of the configuration can get wrong together.

Each rule takes all sections and yields what is wrong as (key, value, rest of the sentence).
"""

from collections.abc import Iterator

from pipeline.config.sections import SOURCE_NAME, Sections
from pipeline.durations import DAY, format_duration

Wrong = tuple[str, object, str]

# Columns of the table `transactions` that are ours; a field of the user's may not be called the same.
SYSTEM_COLUMNS = frozenset(
    (
        "transaction_id",
        "event_time",
        "ingested_at",
        "amount",
        "amount_base",
        "amount_given",
        "currency",
        "kind",
        "original_id",
        "batch_id",
        "row_number",
        "revision",
        "content",
        "content_hash",
        "is_fraud",
    )
)
ROLES = ("transaction_id", "event_time", "amount", "currency", "kind", "original_id", "is_fraud")
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
FIELDS = ("entities", "numeric", "categorical")


def find_wrong(config: Sections) -> Iterator[Wrong]:
    """Yield every rule that is broken, the most telling first."""
    yield from _columns_used_twice(config)
    yield from _fields_named_like_ours(config)
    yield from _hashed_fields_unknown(config)
    yield from _currency_without_rates(config)
    yield from _kind_without_refunds(config)
    yield from _silence_of_unknown_fields(config)
    yield from _labels_used_twice(config)
    yield from _bounds_out_of_order(config)
    yield from _spans_that_do_not_fit(config)
    yield from _sources_without_one_url(config)
    yield from _health_without_token(config)
    yield from _retention_too_short(config)
    yield from _shadows(config)
    yield from _told_of_unknown_fields(config)
    yield from _seasons_of_long_windows(config)


def _columns_used_twice(config: Sections) -> Iterator[Wrong]:
    schema, seen = config.schema_, dict[str, str]()
    named = [(role, getattr(schema, role)) for role in ROLES]
    named += [(kind, name) for kind in FIELDS for name in getattr(schema, kind)]
    for role, name in named:
        lower = name.lower()  # SQLite does not tell upper from lower case, so neither may we
        if name and lower in seen:
            yield f"schema.{role}", name, f"must not use a column that schema.{seen[lower]} already uses"
        seen[lower] = role


def _fields_named_like_ours(config: Sections) -> Iterator[Wrong]:
    for kind in FIELDS:
        for name in getattr(config.schema_, kind):
            if name.lower() in SYSTEM_COLUMNS:
                rest = "must not name a column that is fraudwatch's own; rename it in the file or the query"
                yield f"schema.{kind}", name, rest


def _hashed_fields_unknown(config: Sections) -> Iterator[Wrong]:
    schema = config.schema_
    for name in schema.hash:
        if name not in (*schema.entities, *schema.categorical):
            yield "schema.hash", name, "must name fields of schema.entities or schema.categorical"


def _currency_without_rates(config: Sections) -> Iterator[Wrong]:
    schema = config.schema_
    if schema.currency and not schema.rates:
        rest = "must name a CSV file with the columns date, currency, rate when schema.currency is set"
        yield "schema.rates", schema.rates, rest
    if schema.rates and not schema.currency:
        yield "schema.currency", schema.currency, "must name the currency column when schema.rates is set"


def _kind_without_refunds(config: Sections) -> Iterator[Wrong]:
    schema = config.schema_
    if schema.kind and not schema.refund_kinds:
        yield "schema.refund_kinds", [], "must name at least one kind when schema.kind is set"
    if schema.original_id and not schema.kind:
        yield (
            "schema.kind",
            "",
            "must name the column that tells refunds from payments when schema.original_id is set",
        )


def _silence_of_unknown_fields(config: Sections) -> Iterator[Wrong]:
    schema = config.schema_
    for name in config.labels.never_by_silence:
        if name not in (*schema.entities, *schema.categorical):
            yield "labels.never_by_silence", name, "must name fields of schema.categorical or schema.entities"


def _labels_used_twice(config: Sections) -> Iterator[Wrong]:
    seen = dict[str, str]()
    for role in ("transaction_id", "is_fraud", "known_at", "source"):
        name = getattr(config.labels, role)
        earlier = seen.setdefault(name, role) if name else role
        if earlier != role:
            yield f"labels.{role}", name, f"must not use a column that labels.{earlier} already uses"


def _bounds_out_of_order(config: Sections) -> Iterator[Wrong]:
    choose = config.choose
    if choose.few >= choose.enough:
        yield "choose.few", choose.few, f"must be less than choose.enough ({choose.enough})"
    if choose.rare >= choose.common:
        yield "choose.rare", choose.rare, f"must be less than choose.common ({choose.common:g})"
    if config.training.min_rows > config.training.max_rows:
        rest = f"must not be more than training.max_rows ({config.training.max_rows})"
        yield "training.min_rows", config.training.min_rows, rest


def _spans_that_do_not_fit(config: Sections) -> Iterator[Wrong]:
    training, window = config.training, config.schedule.window
    if training.every % DAY:
        yield "training.every", format_duration(training.every), 'must be whole days such as "7d"'
    if config.quality.window % DAY:
        yield "quality.window", format_duration(config.quality.window), 'must be whole days such as "7d"'
    if training.holdout >= training.span:
        rest = f"must be shorter than training.span ({format_duration(training.span)})"
        yield "training.holdout", format_duration(training.holdout), rest
    if DAY % window and window % DAY:
        yield (
            "schedule.window",
            format_duration(window),
            'must divide a day or be whole days such as "1h" or "1d"',
        )


def _sources_without_one_url(config: Sections) -> Iterator[Wrong]:
    for name, source in config.source.items():
        if SOURCE_NAME.fullmatch(name) is None:
            yield (
                f"source.{name}",
                name,
                "must be named with lower-case letters, digits and single underscores",
            )
        given = [bool(source.url.get_secret_value()), bool(source.url_env), bool(source.url_file)]
        if sum(given) != 1:
            yield (
                f"source.{name}",
                f"{sum(given)} of them",
                "must have exactly one of url, url_env and url_file",
            )


def _health_without_token(config: Sections) -> Iterator[Wrong]:
    health = config.health
    if health.port and health.host not in LOOPBACK and not health.token_env:
        yield (
            "health.token_env",
            "",
            f"must name an environment variable with a token when health.host is {health.host!r}, "
            "which others can reach",
        )


def _told_of_unknown_fields(config: Sections) -> Iterator[Wrong]:
    schema = config.schema_
    for name in config.notify.fields:
        if name not in (*schema.entities, *schema.categorical, *schema.numeric):
            yield (
                "notify.fields",
                name,
                "must name fields of schema.entities, schema.categorical or schema.numeric",
            )


def _retention_too_short(config: Sections) -> Iterator[Wrong]:
    kept = config.retention.transactions
    needed = config.training.span + config.lookback + config.training.every
    if kept and kept < needed:
        yield (
            "retention.transactions",
            format_duration(kept),
            f'must be "0s" (for ever) or at least {format_duration(needed)}: training.span, the longest of '
            "features.windows, labels.maturity and training.every, which trainings look back",
        )


def _seasons_of_long_windows(config: Sections) -> Iterator[Wrong]:
    if config.drift.seasonal and config.schedule.window > DAY:
        rest = "must be false when schedule.window is longer than a day: such a window has no weekday or hour"
        yield "drift.seasonal", True, rest


def _shadows(config: Sections) -> Iterator[Wrong]:
    for name in config.shadow:
        if name == "live" or SOURCE_NAME.fullmatch(name) is None:
            rest = (
                'must be a policy of its own, not "live", whose scores raise the flags: name it with lower-case '
                "letters, digits and single underscores, such as [shadow.cautious]"
            )
            yield f"shadow.{name}", name, rest
        for key, value, rest in find_wrong(config.shadowed(name)):
            yield f"shadow.{name}.{key}", value, rest

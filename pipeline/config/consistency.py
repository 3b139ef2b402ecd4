"""
Checks that involve two or more keys of the configuration.

Each check takes all sections and yields its violations as (key, value, requirement). A requirement continues the
sentence that begins with the key: "must be less than …".
"""

import re
import unicodedata
from collections.abc import Iterator
from datetime import datetime

from pipeline.config.sections import SECTION_NAME, Sections
from pipeline.durations import format_duration
from pipeline.number_text import exact
from storage.frames import DAY
from storage.notifications.events import EVENT_AGE_MAX

Violation = tuple[str, object, str]  # key, value, requirement

# Columns of the table `transactions` that fraudwatch or the database defines; a user's field must have another name.
SYSTEM_COLUMNS = frozenset(
    (
        "transaction_id",
        "event_time",
        "ingested_at",
        "amount",
        "amount_base",
        "currency",
        "kind",
        "original_id",
        "batch_id",
        "row_number",
        "revision",
        "content",
        "content_hash",
        "is_fraud",
        *("xmin", "xmax", "cmin", "cmax", "ctid", "tableoid"),  # of every table of Postgres
        "rowid",  # of every table of SQLite
    )
)
EVENT_KEYS = (
    "payments", "settled", "declined", "refunds", "disputes", "won", "inquiries", "fraud_reports", "ignored",
)  # fmt: skip
ROLES = (
    "transaction_id",
    "event_time",
    "time_of_day",
    "amount",
    "currency",
    "kind",
    "original_id",
    "is_fraud",
    "known_at",
)
# Names, in lower case with underscores, of what the rules for cards forbid to store: verification codes, PINs, tracks.
# Not among them: whether or how one was given (has_cvv, cvv_result, used_pin_number), cid and pin_code, which are a
# customer's id and a postal code as well.
NEVER_STORED = re.compile(
    r"(?!(?:has|is|no|with|valid|used)_)(?:.+_)?(?:cvv|cvc|cvn|cav|csc|cv(?=_?2))_?2?(?:_?(?:code|value|number|num|no|nr))?"
    r"|(?:card|amex)_?cid|card_?(?:verification|security)(?:_?(?:code|value|number|data))?"
    r"|(?:(?:.+_)?card_?|cc_?)?(?:security_?code|verification_?value)|cryptogramme(?:_.+)?"
    r"|(?:karten_?)?sicherheits_?code|karten_?pru?e?f_?(?:nummer|nr|code|wert|ziffer)"
    r"|(?:code|codigo|codice)_(?:de_|di_)?(?:securite|seguridad|seguranca|sicurezza|verificacion)(?:_.+)?"
    r"|(?:(?:card|atm|customer|client|encrypted|enc|hashed)_)?pin(?:_?(?:block|hash|offset|number))?"
    r"|(?:.+_)?track_?(?:[123]|data)(?:_?(?:data|equivalent(?:_data)?))?|(?:.+_)?mag(?:netic)?_?stripe(?:_?data)?"
)
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
FIELDS = ("entities", "numeric", "categorical")
_FIELD_KEYS = "schema.entities, schema.numeric or schema.categorical"


def find_violations(config: Sections) -> Iterator[Violation]:
    """Yield every violation, the most informative first."""
    yield from _columns_used_twice(config)
    yield from _columns_renamed_twice(config)
    yield from _columns_renamed_for_nothing(config)
    yield from _formats_without_start(config)
    yield from _fields_with_system_names(config)
    yield from _fields_never_stored(config)
    yield from _hashed_fields_unknown(config)
    yield from _listed_fields_unknown(config)
    yield from _rates_without_currency(config)
    yield from _kind_without_refunds(config)
    yield from _maturity_of_unknown_fields(config)
    yield from _fields_that_keys_name(config)
    yield from _limits(config)
    yield from _labels_used_twice(config)
    yield from _events_without_columns(config)
    yield from _event_words_used_twice(config)
    yield from _label_words_used_twice(config)
    yield from _reasons_used_twice(config)
    yield from _ids_missing(config)
    yield from _bounds_out_of_order(config)
    yield from _spans_that_do_not_fit(config)
    yield from _sources_without_one_url(config)
    yield from _webhooks_without_one_secret(config)
    yield from _health_without_token(config)
    yield from _web(config)
    yield from _oidc(config)
    yield from _retention_too_short(config)
    yield from _shadows(config)


def _columns_used_twice(config: Sections) -> Iterator[Violation]:
    schema, used = config.schema_, dict[str, str]()
    named = [(role, getattr(schema, role)) for role in ROLES]
    named += [(kind, name) for kind in FIELDS for name in getattr(schema, kind)]
    for role, name in named:
        lower = name.lower()  # SQLite ignores the case of column names
        if name and lower in used:
            yield f"schema.{role}", name, f"must not use a column that schema.{used[lower]} already uses"
        used[lower] = role


def _columns_renamed_twice(config: Sections) -> Iterator[Violation]:
    sources = dict[str, str]()
    for source, name in config.schema_.columns.items():
        earlier = sources.setdefault(name.lower(), source)
        if earlier != source:
            yield f'schema.columns."{source}"', name, f'must not be the name that "{earlier}" already has'


def _columns_renamed_for_nothing(config: Sections) -> Iterator[Violation]:
    schema = config.schema_
    used = {getattr(schema, role) for role in ROLES} | {
        name for kind in FIELDS for name in getattr(schema, kind)
    }
    for source, name in schema.columns.items():
        if name not in used:
            requirement = "must be a name that another key of [schema] uses"
            yield f'schema.columns."{source}"', name, requirement
        if source in used and source not in schema.columns.values():
            yield (
                f'schema.columns."{source}"',
                name,
                "must be the name by which all other keys use that column",
            )


def _formats_without_start(config: Sections) -> Iterator[Violation]:
    form = config.format
    if form.time.startswith("elapsed") != bool(form.time_start):
        yield "format.time_start", form.time_start, "must be set for format.time elapsed_…, and only then"
    elif (
        form.time_start
        and datetime.fromisoformat(form.time_start).tzinfo is None
        and not config.schema_.timezone
    ):
        yield (
            "format.time_start",
            form.time_start,
            "must have an offset such as +00:00 when schema.timezone is empty",
        )
    if form.thousands == form.decimal:
        yield "format.thousands", form.thousands, "must differ from format.decimal"


def _fields_with_system_names(config: Sections) -> Iterator[Violation]:
    for kind in FIELDS:
        for name in getattr(config.schema_, kind):
            if name.lower() in SYSTEM_COLUMNS:
                requirement = "must not have the name of a column of fraudwatch or of the database; give it another one under [schema.columns]"
                yield f"schema.{kind}", name, requirement


def _fields_never_stored(config: Sections) -> Iterator[Violation]:
    """Verification codes, PINs and track data, by the name of the field or of its column in the file."""
    sources = {name: source for source, name in config.schema_.columns.items()}
    for kind in (*FIELDS, "hash", *ROLES):
        value = getattr(config.schema_, kind)
        for name in (value,) if isinstance(value, str) else value:
            requirement = "must not name a verification code, a PIN or track data, which PCI DSS 3.3 forbids to store, even hashed: leave it out"
            source = sources.get(name, "")
            if _is_never_stored(source):
                yield f'schema.columns."{source}"', name, requirement
            elif _is_never_stored(name):
                yield f"schema.{kind}", name, requirement


def _is_never_stored(name: str) -> bool:
    letters = "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
    words = re.sub(r"(?<=[a-z])(?=[A-Z])|[^A-Za-z0-9]+", "_", letters).lower().strip("_")
    return NEVER_STORED.fullmatch(words) is not None


def _hashed_fields_unknown(config: Sections) -> Iterator[Violation]:
    schema = config.schema_
    for name in schema.hash:
        if name not in (*schema.entities, *schema.categorical):
            yield "schema.hash", name, "must name fields of schema.entities or schema.categorical"


def _listed_fields_unknown(config: Sections) -> Iterator[Violation]:
    schema = config.schema_
    fields = {name for kind in FIELDS for name in getattr(schema, kind)}
    ids = (schema.transaction_id, schema.original_id, schema.kind, config.labels.transaction_id)
    for name in schema.trusted:
        if name not in fields | {schema.amount, schema.kind}:
            yield "schema.trusted", name, f"must name fields of {_FIELD_KEYS}"
    for name in schema.plain_card_numbers:
        if name not in fields.union(filter(None, ids)):
            yield (
                "schema.plain_card_numbers",
                name,
                f"must name fields of {_FIELD_KEYS}, or a column with ids",
            )


def _rates_without_currency(config: Sections) -> Iterator[Violation]:
    schema = config.schema_
    if schema.rates and not schema.currency:
        yield "schema.currency", schema.currency, "must name the currency column when schema.rates is set"


def _kind_without_refunds(config: Sections) -> Iterator[Violation]:
    schema = config.schema_
    if schema.kind and not schema.refund_kinds:
        yield "schema.refund_kinds", [], "must name at least one kind when schema.kind is set"
    if schema.original_id and not schema.kind:
        yield (
            "schema.kind",
            "",
            "must name the column that distinguishes refunds from payments when schema.original_id is set",
        )


def _maturity_of_unknown_fields(config: Sections) -> Iterator[Violation]:
    schema = config.schema_
    for name in config.labels.never_by_silence:
        if name not in (*schema.entities, *schema.categorical):
            yield (
                "labels.never_by_silence",
                name,
                "must name fields of schema.categorical or schema.entities",
            )
        elif name in schema.hash:
            yield (
                "labels.never_by_silence",
                name,
                "must not name a field of schema.hash, which is stored as hashes and never equals these values",
            )


def _fields_that_keys_name(config: Sections) -> Iterator[Violation]:
    """Keys outside of [schema] that name one of its fields."""
    schema, costs = config.schema_, config.costs
    plain = [name for name in (*schema.categorical, *schema.entities) if name not in schema.hash]
    if schema.initiated_by and schema.initiated_by not in plain:
        yield (
            "schema.initiated_by",
            schema.initiated_by,
            "must name a field of schema.categorical that is not in schema.hash",
        )
    if len(config.labels.maturity_by) > 1:
        yield "labels.maturity_by", list(config.labels.maturity_by), "must be for one field"
    for key, tables in (
        ("labels.maturity_by", config.labels.maturity_by),
        ("costs.liability_shifted", costs.liability_shifted),
    ):
        for name in tables:
            if name not in plain:
                yield (
                    key,
                    name,
                    "must name fields of schema.categorical or schema.entities that are not in schema.hash",
                )
    if costs.exposure and costs.exposure not in schema.numeric:
        yield "costs.exposure", costs.exposure, "must name a field of schema.numeric"
    if config.alerts.entity and config.alerts.entity not in schema.entities:
        yield "alerts.entity", config.alerts.entity, "must name a field of schema.entities"
    for name, template in config.web.links.items():
        for field in {*re.findall(r"\{(\w+)\}", template)} - {"id", *schema.entities}:
            yield f"web.links.{name}", field, "must have id or fields of schema.entities in braces"


def _limits(config: Sections) -> Iterator[Violation]:
    schema = config.schema_
    for name, limit in config.limit.items():
        if SECTION_NAME.fullmatch(name) is None:
            requirement = "must be named with lower-case letters, digits and single underscores"
            yield f"limit.{name}", name, requirement
        if limit.per and limit.per not in (*schema.categorical, *schema.entities):
            yield (
                f"limit.{name}.per",
                limit.per,
                "must name a field of schema.categorical or schema.entities",
            )
        plain = [field for field in (*schema.categorical, *schema.entities) if field not in schema.hash]
        for field in limit.only:
            if field not in plain:
                requirement = (
                    "must name fields of schema.categorical or schema.entities that are not in schema.hash"
                )
                yield f"limit.{name}.only", field, requirement
        if limit.by == "payment" and limit.payments == "previous":
            requirement = 'must be "report" with payments = "previous": frauds of the payments of one month are no share of another\'s'
            yield f"limit.{name}.by", limit.by, requirement


def _events_without_columns(config: Sections) -> Iterator[Violation]:
    schema, events = config.schema_, config.events
    if not events.type:
        return
    for key, meaning in (
        ("transaction_id", "the id of the payment"),
        ("kind", "a column that says which rows are refunds, and is made from the events"),
        ("original_id", "a column with the refunded payment, which is made from the events"),
    ):
        if not getattr(schema, key):
            yield f"schema.{key}", "", f"must name {meaning} when events.type is set"
    for key, reason in (("is_fraud", "disputes are events"), ("line_items", "rows are events")):
        if getattr(schema, key):
            yield f"schema.{key}", getattr(schema, key), f"must not be set when events.type is: {reason}"


def _event_words_used_twice(config: Sections) -> Iterator[Violation]:
    used = dict[str, str]()
    for key in EVENT_KEYS:
        for word in getattr(config.events, key):
            earlier = used.setdefault(word.strip().lower(), key)
            if earlier != key:
                yield f"events.{key}", word, f"must not hold a word of events.{earlier}"


def _labels_used_twice(config: Sections) -> Iterator[Violation]:
    used = dict[str, str]()
    for role in ("transaction_id", "is_fraud", "known_at", "source", "reason", "stage", "amount"):
        name = getattr(config.labels, role)
        earlier = used.setdefault(name, role) if name else role
        if earlier != role:
            yield f"labels.{role}", name, f"must not use a column that labels.{earlier} already uses"


def _label_words_used_twice(config: Sections) -> Iterator[Violation]:
    used = dict[str, str]()
    for key in ("fraud_words", "genuine_words", "unlabelled_words"):
        for word in getattr(config.labels, key):
            earlier = used.setdefault(word.strip().lower(), key)
            if earlier != key:
                yield f"labels.{key}", word, f"must not hold a word of labels.{earlier}"
            if word == "*" and key != "unlabelled_words":
                yield f"labels.{key}", word, "must hold words; only labels.unlabelled_words may be all others"


def _reasons_used_twice(config: Sections) -> Iterator[Violation]:
    labels = config.labels
    used = {code.strip().lower(): "labels.fraud_reasons" for code in labels.fraud_reasons}
    for name, codes in labels.dispute_types.items():
        key = f"labels.dispute_types.{name}"
        for code in codes:
            earlier = used.setdefault(code.strip().lower(), key)
            if earlier != key:
                yield key, code, f"must not hold a reason of {earlier}"


def _ids_missing(config: Sections) -> Iterator[Violation]:
    schema = config.schema_
    if schema.line_items and not schema.transaction_id:
        requirement = "must name the column with the id of the order when schema.line_items is true"
        yield "schema.transaction_id", "", requirement
    if schema.known_at and not schema.is_fraud:
        yield "schema.is_fraud", "", "must name the column with labels when schema.known_at is set"


def _bounds_out_of_order(config: Sections) -> Iterator[Violation]:
    strategy = config.strategy
    if strategy.min_positives_blend >= strategy.min_positives_classifier:
        yield (
            "strategy.min_positives_blend",
            strategy.min_positives_blend,
            f"must be less than strategy.min_positives_classifier ({strategy.min_positives_classifier})",
        )
    if strategy.prevalence_gate_low >= strategy.prevalence_gate_high:
        yield (
            "strategy.prevalence_gate_low",
            strategy.prevalence_gate_low,
            f"must be less than strategy.prevalence_gate_high ({exact(strategy.prevalence_gate_high)})",
        )
    if config.training.min_rows > config.training.max_rows:
        requirement = f"must not be more than training.max_rows ({config.training.max_rows})"
        yield "training.min_rows", config.training.min_rows, requirement


def _spans_that_do_not_fit(config: Sections) -> Iterator[Violation]:
    training, window = config.training, config.schedule.window
    if training.every % DAY:
        yield "training.every", format_duration(training.every), 'must be whole days such as "7d"'
    if config.quality.window % DAY:
        yield "quality.window", format_duration(config.quality.window), 'must be whole days such as "7d"'
    if training.holdout >= training.span:
        requirement = f"must be shorter than training.span ({format_duration(training.span)})"
        yield "training.holdout", format_duration(training.holdout), requirement
    if DAY % window and window % DAY:
        yield (
            "schedule.window",
            format_duration(window),
            'must divide a day or be whole days such as "1h" or "1d"',
        )


def _sources_without_one_url(config: Sections) -> Iterator[Violation]:
    for name, source in config.source.items():
        if SECTION_NAME.fullmatch(name) is None:
            yield (
                f"source.{name}",
                name,
                "must be named with lower-case letters, digits and single underscores",
            )
        urls = [bool(source.url.get_secret_value()), bool(source.url_env), bool(source.url_file)]
        if sum(urls) != 1:
            yield (
                f"source.{name}",
                f"{sum(urls)} of them",
                "must have exactly one of url, url_env and url_file",
            )


def _webhooks_without_one_secret(config: Sections) -> Iterator[Violation]:
    for name, webhook in config.webhook.items():
        key = f"webhook.{name}"
        if SECTION_NAME.fullmatch(name) is None:
            yield (key, name, "must be named with lower-case letters, digits and single underscores")
        secrets = [
            bool(webhook.secret.get_secret_value()),
            bool(webhook.secret_env),
            bool(webhook.secret_file),
        ]
        if sum(secrets) != 1:
            yield (
                key,
                f"{sum(secrets)} of them",
                "must have exactly one of secret, secret_env and secret_file",
            )


def _health_without_token(config: Sections) -> Iterator[Violation]:
    health = config.health
    if health.port and health.host not in LOOPBACK and not health.token_env:
        yield (
            "health.token_env",
            "",
            f"must name an environment variable with a token when health.host is {health.host!r}, "
            "which other machines can reach",
        )


def _web(config: Sections) -> Iterator[Violation]:
    web = config.web
    if web.session_idle > web.session_absolute:
        longest = format_duration(web.session_absolute)
        shown = format_duration(web.session_idle)
        yield "web.session_idle", shown, f"must not be longer than web.session_absolute ({longest})"
    if web.host not in LOOPBACK and not web.public_url:
        yield "web.public_url", "", f"must say how people reach the console when web.host is {web.host}"


def _oidc(config: Sections) -> Iterator[Violation]:
    oidc = config.oidc
    if not oidc.issuer:
        if not oidc.passwords:
            yield "oidc.passwords", False, "must be true without oidc.issuer, or nobody could log in"
        return
    if not oidc.client_id:
        yield "oidc.client_id", "", "must name this program as the provider knows it when oidc.issuer is set"
    if bool(oidc.client_secret_env) == bool(oidc.client_secret_file):
        yield (
            "oidc.client_secret_file",
            oidc.client_secret_file,
            "must be set, or oidc.client_secret_env, and not both, when oidc.issuer is set",
        )
    if not oidc.roles:
        yield "oidc.roles", {}, "must give a role to at least one group when oidc.issuer is set"
    if not config.web.public_url:
        yield "web.public_url", "", "must be set when oidc.issuer is: the provider sends people back there"


def _retention_too_short(config: Sections) -> Iterator[Violation]:
    retention = config.retention.transactions
    needed = config.training.span + config.lookback + config.training.every
    if retention and retention < needed:
        yield (
            "retention.transactions",
            format_duration(retention),
            f'must be "0s" (for ever) or at least {format_duration(needed)}: training.span, the longest of '
            "features.windows, labels.maturity and training.every, the time that trainings look back",
        )
    audit = config.retention.audit
    if audit and audit < 365 * DAY:
        yield "retention.audit", format_duration(audit), 'must be "0s" (for ever) or at least 365d'
    messages = config.retention.messages
    if messages and messages < EVENT_AGE_MAX:
        yield (
            "retention.messages",
            format_duration(messages),
            f'must be "0s" (for ever) or at least {format_duration(EVENT_AGE_MAX)}: an event that is younger is sent '
            "again if its message is gone",
        )


def _shadows(config: Sections) -> Iterator[Violation]:
    for name in config.shadow:
        if name == "live" or SECTION_NAME.fullmatch(name) is None:
            requirement = (
                'must be named differently from "live", in lower-case letters, digits and single underscores, '
                "such as [shadow.cautious]"
            )
            yield f"shadow.{name}", name, requirement
        own = config.for_challenger(name)
        for key, value, requirement in find_violations(own):
            yield f"shadow.{name}.{key}", value, requirement
        for key in ("fee", "exposure", "liability_shifted"):
            value = getattr(own.costs, key)
            if value != getattr(config.costs, key):
                yield (
                    f"shadow.{name}.costs.{key}",
                    value,
                    "must not differ from [costs]: payments have it, not policies",
                )

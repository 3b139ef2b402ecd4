"""
The sections of config.toml as frozen, strict pydantic models.

Types are strict: a number in quotes is not a number. Durations are written "30d" and stored as int µs. This module
validates each key alone; `pipeline.config.consistency` validates keys together.
"""

import codecs
import ipaddress
import re
import zoneinfo
from collections.abc import Callable
from datetime import date, datetime
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, SecretStr

from detectors.base import DetectorError, Method
from detectors.registry import DEFAULT_OUTLIER, check_outlier_detector
from pipeline.config.crontab import check_crontab
from pipeline.config.outward_reasons import OUTWARD_REASONS
from pipeline.durations import format_duration, parse_duration
from storage.frames import DAY, HOUR, MINUTE, SECOND
from storage.notifications.events import EVENTS, Event

COLUMN = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")  # 63 bytes is Postgres' limit for a name
SECTION_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")  # so that FRAUDWATCH_SOURCE__NAME__KEY can name it

NO_ENCODINGS_OF_FILES = frozenset({"idna", "punycode", "unicode-escape", "raw-unicode-escape"})

RECEIVER_URL = re.compile(r"(?:([a-z]+(?:,[a-z]+)*)=)?([A-Za-z][A-Za-z0-9+.-]*)://\S+")


def _duration(at_least: int, at_most: int = 3660 * DAY) -> Callable[[object], int]:
    def read(text: object) -> int:
        span = parse_duration(text)
        if not at_least <= span <= at_most:
            limits = f"{format_duration(at_least)} to {format_duration(at_most)}"
            raise ValueError(f"must be a duration from {limits}")
        return span

    return read


def _column(name: str) -> str:
    if COLUMN.fullmatch(name) is None:
        raise ValueError(
            "must be a valid name of a database column (letters, digits and underscores, no digit first, "
            "63 at most): give it one under [schema.columns], and use that one here"
        )
    return name


def _zone(name: str) -> str:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError('must be a time zone of the IANA list such as "UTC" or "Europe/Paris"') from error
    return name


def _zone_or_none(name: str) -> str:
    return _zone(name) if name else name


def _encoding(name: str) -> str:
    try:
        "a".encode(name)  # rot13 and base64 are codecs, too, but not of text
        is_of_files = codecs.lookup(name).name not in NO_ENCODINGS_OF_FILES
    except (LookupError, ValueError):
        is_of_files = False
    if not is_of_files:
        raise ValueError('must be a text encoding such as "utf-8", "cp1252" or "utf-16"')
    return name


def _instant_or_none(text: str) -> str:
    try:
        if text:
            datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError('must be a time such as "2026-01-01T00:00:00+00:00", or empty') from error
    return text


def _printable(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise ValueError("must be printable text on one line")
    return text


def _ascending(values: tuple[int, ...]) -> tuple[int, ...]:
    if not values or sorted(set(values)) != list(values):
        raise ValueError('must hold at least one window, ascending, each once, such as ["1d", "7d", "30d"]')
    return values


def _distinct(values: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(values)) != len(values):
        raise ValueError("must name each value once")
    return values


def _hours(hours: object) -> object:
    two = isinstance(hours, list | tuple) and len(hours) == 2 and all(type(hour) is int for hour in hours)
    if not two or not 0 <= hours[0] <= hours[1] <= 23:  # type: ignore[index]
        raise ValueError("must be two hours from 0 to 23, the earlier one first, such as [0, 6]")
    return hours


def _receiver_url(url: SecretStr) -> SecretStr:
    match = RECEIVER_URL.fullmatch(url.get_secret_value())
    unknown = sorted(set((match[1] or "").split(",")) - {*EVENTS, ""}) if match else []
    if match is None or unknown:
        raise ValueError(
            'must be Apprise URLs such as "mailtos://…", optionally with the events they are for in front: '
            f'"failure,drift=slack://…"; events are {", ".join(EVENTS)}'
        )
    return url


def _ping_url(url: SecretStr) -> SecretStr:
    if url.get_secret_value() and re.fullmatch(r"https?://[^\s/]+\S*", url.get_secret_value()) is None:
        raise ValueError('must be a URL such as "https://hc-ping.com/…", or empty')
    return url


def _webhook_url(url: SecretStr) -> SecretStr:
    if re.fullmatch(r"https?://[^\s/?#@]+(?:[/?][^\s#]*)?", url.get_secret_value()) is None:
        raise ValueError('must be a URL such as "https://shop.example.com/fraud", without a user or password')
    return url


def _outward_reasons(texts: dict[str, str]) -> dict[str, str]:
    unknown = sorted(texts.keys() - OUTWARD_REASONS.keys())
    if unknown:
        raise ValueError(f"must be named by codes of reasons: {', '.join(sorted(OUTWARD_REASONS))}")
    return texts


def _links(templates: dict[str, str]) -> dict[str, str]:
    for name, template in templates.items():
        if re.fullmatch(r"https://[^\s/?#@{}]+(/\S*)?", template) is None:
            raise ValueError(f"{name}: must be an https URL with a host, got {template!r}")
        if re.search(r"[{}]", re.sub(r"\{\w+\}", "", template)):
            raise ValueError(
                f"{name}: braces must enclose id or a field of schema.entities, got {template!r}"
            )
    return templates


def _public_url(url: str) -> str:
    if url and re.fullmatch(r"https?://[^\s/?#@]+", url) is None:
        raise ValueError('must be a URL without a path such as "https://fraud.example.com", or empty')
    return url


def _issuer(url: str) -> str:
    if (
        url
        and re.fullmatch(r"https://[^\s?#@]+|http://(localhost|127\.0\.0\.1|\[::1\])[^\s?#@]*", url) is None
    ):
        raise ValueError('must be an https URL such as "https://login.example.com/realms/fraud", or empty')
    return url


def _network(text: str) -> str:
    try:
        ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError('must be addresses or networks such as "10.0.0.7" or "10.0.0.0/24"') from error
    return text


def _quiet_hours(hours: tuple[str, ...]) -> tuple[str, ...]:
    clock = re.compile(r"([01]\d|2[0-3]):[0-5]\d")
    if hours and (len(hours) != 2 or hours[0] == hours[1] or not all(map(clock.fullmatch, hours))):
        raise ValueError('must be two different times of day such as ["22:00", "07:00"], or empty')
    return hours


def _currency(code: str) -> str:
    if re.fullmatch(r"[A-Z]{3}", code) is None:
        raise ValueError('must be three capital letters such as "EUR"')
    return code


def _holiday(day: str) -> str:
    yearly = f"2000-{day}" if re.fullmatch(r"[0-9]{2}-[0-9]{2}", day) else day
    if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", yearly) is None or not _is_date(yearly):
        raise ValueError('must be dates such as "2026-04-03", or "12-25" for the same day of every year')
    return day


def _reference(text: str) -> str:
    start, _, end = text.partition("/")
    if text != "model" and not (_is_date(start) and _is_date(end) and start < end):
        raise ValueError('must be "model" or two dates such as "2026-01-01/2026-03-01", the end not included')
    return text


def _drift_metrics(names: tuple[str, ...]) -> tuple[str, ...]:
    from detectors.drift.metrics import COLUMN_METRICS

    if not set(names) <= set(COLUMN_METRICS):
        raise ValueError(f"must name drift metrics: {', '.join(COLUMN_METRICS)}")
    return _distinct(names)


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _variable(name: str) -> str:
    if name and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) is None:
        raise ValueError("must be the name of an environment variable, not its value")
    return name


def _outlier_detector(name: str) -> str:
    try:
        return check_outlier_detector(name)
    except DetectorError as error:
        raise ValueError(f"must name a detector that ranks payments ({error})") from error


AS_DURATION = PlainSerializer(format_duration, return_type=str, when_used="json")
Text = Annotated[str, AfterValidator(_printable)]
Column = Annotated[str, AfterValidator(_column)]
Zone = Annotated[str, AfterValidator(_zone)]
# TOML has lists, the models have tuples: strict=False accepts a list; its items stay strict.
Columns = Annotated[tuple[Column, ...], Field(strict=False), AfterValidator(_distinct)]
Texts = Annotated[tuple[Text, ...], Field(strict=False), AfterValidator(_distinct)]
Events = Annotated[tuple[Event, ...], Field(strict=False), AfterValidator(_distinct)]


# Reason codes that mean fraud: Visa 10.1 to 10.5, Mastercard 4837, 4840, 4863, 4870 and 4871, American Express F…,
# Discover UA…, SEPA MD01 (no mandate), Stripe and PayPal words, and the reports TC40 (Visa) and SAFE (Mastercard).
FRAUD_REASONS = (
    "10.*", "4837", "4840", "4863", "4870", "4871", "F10", "F14", "F24", "F29", "F30", "F31", "UA*", "MD01",
    "fraudulent", "fraud", "unauthorized", "unauthorised", "unauthorised_transaction", "TC40*", "SAFE*",
)  # fmt: skip
DISPUTE_TYPES = {
    "not_received": ("13.1", "4855", "product_not_received", "item_not_received", "C08"),
    "not_as_described": ("13.3", "13.4", "4853", "product_unacceptable", "item_not_as_described", "C31", "C32"),
    "cancelled": ("13.2", "13.7", "4841", "subscription_canceled", "C05", "C28"),
    "refund_not_received": ("13.6", "4860", "credit_not_processed", "C02"),
    "duplicate": ("12.6*", "4834", "duplicate", "P08"),
    "friendly_fraud": ("friendly_fraud", "first_party"),
    "early_refund": ("early_refund", "rdr", "refund"),
}  # fmt: skip


class ConfigSection(BaseModel):
    """Base of all sections: frozen and strict; unknown keys are errors, and errors do not show values."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        populate_by_name=True,
        hide_input_in_errors=True,
        allow_inf_nan=False,
    )


class MonitorSection(ConfigSection):
    """The name of this monitor; a database belongs to one name."""

    name: Annotated[str, AfterValidator(_printable), Field(max_length=100)] = "fraudwatch"


class StorageSection(ConfigSection):
    """The database. Its URL may hold a password, so it is never printed."""

    url: Annotated[SecretStr, Field(min_length=1)] = SecretStr("sqlite:///fraudwatch.db")
    url_file: str = ""
    model_key_file: str = ""
    schema_: Annotated[Column, Field(alias="schema")] = "fraudwatch"


class SchemaSection(ConfigSection):
    """Which column of the user's transactions has which role."""

    columns: dict[Text, Column] = {}
    transaction_id: str = "transaction_id"
    line_items: bool = False
    event_time: Text = "event_time"
    time_of_day: str = ""
    amount: Text = "amount"
    currency: str = ""
    base_currency: Annotated[str, AfterValidator(_currency)] = "EUR"
    rates: str = ""
    kind: str = "kind"
    refund_kinds: Texts = ("refund", "reversal")
    original_id: str = "original_id"
    is_fraud: str = ""
    known_at: str = ""
    genuine_means: Literal["silence", "genuine"] = "silence"
    initiated_by: str = ""
    merchant_initiated: Texts = ("merchant", "recurring", "retry")
    entities: Columns = ("customer_id", "card_id", "merchant_id", "device_id")
    numeric: Columns = ()
    categorical: Columns = ("channel", "country", "status")
    hash: Columns = ()
    hash_key_file: str = ""
    plain_card_numbers: Columns = ()
    trusted: Columns = ()
    timezone: Annotated[str, AfterValidator(_zone_or_none)] = ""


class FormatSection(ConfigSection):
    """How the user's files and queries write their values."""

    encoding: Annotated[str, AfterValidator(_encoding)] = "utf-8"
    quote: Literal["double", "single"] = "double"
    decimal: Literal[".", ","] = "."
    thousands: Literal["", ",", ".", " ", "'"] = ""
    amount_unit: Literal["major", "minor"] = "major"
    time: Literal[
        "iso",
        "year_first",
        "day_first",
        "month_first",
        "epoch_seconds",
        "epoch_milliseconds",
        "elapsed_seconds",
        "elapsed_minutes",
        "elapsed_hours",
        "elapsed_days",
    ] = "iso"
    time_start: Annotated[str, AfterValidator(_instant_or_none)] = ""


class SourceSection(ConfigSection):
    """A query of another database, which an ingest names."""

    url: SecretStr = SecretStr("")
    url_env: Annotated[str, AfterValidator(_variable)] = ""
    url_file: str = ""
    query: Annotated[str, Field(min_length=1)]
    kind: Literal["transactions", "labels", "rates"] = "transactions"
    timeout: Annotated[int, BeforeValidator(_duration(SECOND, DAY)), AS_DURATION] = 5 * MINUTE
    poll: bool = False
    cursor: str = ""
    overlap: Annotated[int, BeforeValidator(_duration(0, 31 * DAY)), AS_DURATION] = HOUR


class WatchSection(ConfigSection):
    """A folder whose files the daemon ingests."""

    folder: Annotated[str, Field(min_length=1)]
    kind: Literal["transactions", "labels", "rates"] = "transactions"
    pattern: Annotated[str, Field(min_length=1)] = "*"
    settle_time: Annotated[int, BeforeValidator(_duration(0, DAY)), AS_DURATION] = 10 * SECOND


class EventsSection(ConfigSection):
    """Which words of a column say what happened to a payment, in files whose rows are events of payments."""

    type: str = ""
    id: str = ""
    payments: Texts = ("authorised", "authorized", "charge", "payment")
    settled: Texts = ("settled", "captured", "sentforsettle")
    declined: Texts = ("refused", "declined", "cancelled", "expired", "error")
    refunds: Texts = ("refunded", "refund", "payment_refund")
    disputes: Texts = ("chargeback", "dispute", "secondchargeback")
    won: Texts = ("chargebackreversed", "dispute_reversal", "chargeback_reversal")
    inquiries: Texts = ("requestforinformation", "notificationofchargeback", "inquiry")
    fraud_reports: Texts = ("notificationoffraud", "early_fraud_warning", "tc40", "safe")
    ignored: Texts = ()


class LabelsSection(ConfigSection):
    """The columns of label files, which disputes are fraud, and when an unlabelled transaction counts as genuine."""

    transaction_id: Text = "transaction_id"
    is_fraud: Text = "is_fraud"
    known_at: Text = "known_at"
    source: str = "source"
    reason: str = "reason"
    stage: str = "stage"
    amount: str = "amount"
    fraud_words: Texts = ("1", "true", "fraud", "yes", "t", "y")
    genuine_words: Texts = ("0", "false", "genuine", "no", "f", "n")
    unlabelled_words: Texts = ()
    fraud_reasons: Texts = FRAUD_REASONS
    dispute_types: dict[Text, Annotated[Texts, Field(min_length=1)]] = DISPUTE_TYPES
    fraud_types: Texts = ("stolen_card", "account_takeover", "stolen_identity", "merchant", "scam")
    won_means: Literal["fraud", "genuine"] = "fraud"
    maturity: Annotated[int, BeforeValidator(_duration(0)), AS_DURATION] = 30 * DAY
    maturity_by: dict[Column, dict[Text, Annotated[int, BeforeValidator(_duration(0)), AS_DURATION]]] = {}
    precedence: Texts = ("audit", "review", "investigation", "chargeback", "customer")
    never_by_silence: dict[Column, Annotated[Texts, Field(min_length=1)]] = {
        "status": ("declined", "blocked")
    }

    @property
    def longest_maturity(self) -> int:
        """The longest of `maturity` and `maturity_by` (µs): features and windows of quality wait for it."""
        return max([self.maturity, *(span for spans in self.maturity_by.values() for span in spans.values())])


class FeaturesSection(ConfigSection):
    """The time windows over which an entity's history is aggregated."""

    windows: Annotated[
        tuple[Annotated[int, BeforeValidator(_duration(HOUR, 366 * DAY)), AS_DURATION], ...],
        Field(strict=False),
        AfterValidator(_ascending),
    ] = (DAY, 7 * DAY, 30 * DAY)
    night: Annotated[tuple[int, int], Field(strict=False), BeforeValidator(_hours)] = (0, 6)


class TrainingSection(ConfigSection):
    """When and on which data a model is trained."""

    every: Annotated[int, BeforeValidator(_duration(DAY)), AS_DURATION] = 7 * DAY
    span: Annotated[int, BeforeValidator(_duration(DAY)), AS_DURATION] = 180 * DAY
    max_rows: Annotated[int, Field(ge=1000)] = 100_000
    min_rows: Annotated[int, Field(ge=10)] = 500
    holdout: Annotated[int, BeforeValidator(_duration(DAY)), AS_DURATION] = 7 * DAY
    threads: Annotated[int, Field(ge=1, le=256)] = 1
    exclude_flagged: bool = False
    gate: bool = True


class OutlierSection(ConfigSection):
    """The detector that ranks payments by how unusual they are."""

    detector: Annotated[str, AfterValidator(_outlier_detector)] = DEFAULT_OUTLIER


class StrategySection(ConfigSection):
    """How the strategy is chosen: outlier detection, blend or classification."""

    method: Method = "auto"
    min_positives_blend: Annotated[int, Field(ge=1)] = 1
    min_positives_classifier: Annotated[int, Field(ge=2)] = 300
    prevalence_gate_low: Annotated[float, Field(gt=0, lt=1)] = 1e-4
    prevalence_gate_high: Annotated[float, Field(gt=0, lt=1)] = 1.2e-4
    confirmations: Annotated[int, Field(ge=1, le=10)] = 2
    outlier_share: Annotated[float, Field(ge=0, le=1)] = 0.1


class CostsSection(ConfigSection):
    """The costs of a missed fraud and of a review."""

    missed_fraud: Annotated[float, Field(gt=0)] = 100.0
    review: Annotated[float, Field(gt=0)] = 1.0
    missed_fraud_basis: Literal["constant", "amount"] = "constant"
    fee: Annotated[float, Field(ge=0)] = 0.0
    exposure: str = ""
    liability_shifted: dict[Column, Annotated[Texts, Field(min_length=1)]] = {}


class LimitSection(ConfigSection):
    """A limit on the rate of fraud or disputes, such as that of a card scheme or of PSD2."""

    rate: Literal["fraud", "dispute", "fraud_and_dispute"] = "fraud"
    of: Literal["count", "value"] = "count"
    basis_points: Annotated[float, Field(gt=0, le=10_000)]
    days: Annotated[int, Field(ge=0, le=366)] = 0
    by: Literal["payment", "report"] = "report"
    payments: Literal["same", "previous"] = "same"
    only: dict[Column, Annotated[Texts, Field(min_length=1)]] = {}
    per: str = ""
    at_least: Annotated[int, Field(ge=0)] = 0
    warn_at: Annotated[float, Field(gt=0, le=1)] = 0.8


class AlertsSection(ConfigSection):
    """How many cases reviewers get, and flags with how many reasons."""

    per_day: Annotated[int, Field(ge=1)] = 50
    audit_per_day: Annotated[int, Field(ge=0)] = 0
    entity: str = ""
    per: Literal["day", "working_day"] = "day"
    expire: Annotated[int, BeforeValidator(_duration(0)), AS_DURATION] = 0
    answer_within: Annotated[int, BeforeValidator(_duration(0)), AS_DURATION] = 0
    reasons: Annotated[int, Field(ge=1, le=20)] = 5


class ShadowSection(ConfigSection):
    """
    Keys in which a challenger differs from live, by section.

    Each section holds defaults for the keys that are not set; only keys that are set count.
    """

    features: FeaturesSection = FeaturesSection()
    training: TrainingSection = TrainingSection()
    outlier: OutlierSection = OutlierSection()
    strategy: StrategySection = StrategySection()
    costs: CostsSection = CostsSection()
    alerts: AlertsSection = AlertsSection()

    @property
    def overrides(self) -> dict[str, dict[str, Any]]:
        """Section → key → value of the keys that are set."""
        parts = {
            name: getattr(self, name) for name in type(self).model_fields if name in self.model_fields_set
        }
        return {
            name: {key: getattr(part, key) for key in sorted(part.model_fields_set)}
            for name, part in parts.items()
        }


class ScheduleSection(ConfigSection):
    """The schedule of scoring windows, and how late a row may arrive."""

    window: Annotated[int, BeforeValidator(_duration(5 * MINUTE, 31 * DAY)), AS_DURATION] = DAY
    allowed_lateness: Annotated[int, BeforeValidator(_duration(0, 31 * DAY)), AS_DURATION] = HOUR
    timezone: Zone = "UTC"
    tick: Annotated[int, BeforeValidator(_duration(SECOND, DAY)), AS_DURATION] = 5 * MINUTE
    cron: Annotated[str, AfterValidator(check_crontab)] = ""
    catch_up: Annotated[int, Field(ge=2)] = 24
    attempts: Annotated[int, Field(ge=1, le=20)] = 3
    backoff: Annotated[int, BeforeValidator(_duration(SECOND, DAY)), AS_DURATION] = 5 * MINUTE


class HealthSection(ConfigSection):
    """The health endpoints of the daemon; port 0 turns them off."""

    port: Annotated[int, Field(ge=0, le=65535)] = 0
    host: Text = "127.0.0.1"
    token_env: Annotated[str, AfterValidator(_variable)] = ""


class RetentionSection(ConfigSection):
    """How long rows are kept; 0 keeps them for ever."""

    transactions: Annotated[int, BeforeValidator(_duration(0)), AS_DURATION] = 0
    rejected: Annotated[int, BeforeValidator(_duration(0)), AS_DURATION] = 90 * DAY
    drift: Annotated[int, BeforeValidator(_duration(0)), AS_DURATION] = 730 * DAY
    runs: Annotated[int, BeforeValidator(_duration(0)), AS_DURATION] = 730 * DAY
    withdrawn: Annotated[int, BeforeValidator(_duration(0)), AS_DURATION] = 90 * DAY
    messages: Annotated[int, BeforeValidator(_duration(0)), AS_DURATION] = 90 * DAY
    notes: Annotated[int, BeforeValidator(_duration(0)), AS_DURATION] = 0
    audit: Annotated[int, BeforeValidator(_duration(0)), AS_DURATION] = 0


class CalendarSection(ConfigSection):
    """Days that differ from usual ones."""

    holidays: Annotated[tuple[Annotated[str, AfterValidator(_holiday)], ...], Field(strict=False), AfterValidator(_distinct)] = ()  # fmt: skip


class DriftSection(ConfigSection):
    """The drift reference, and how many false alarms are acceptable."""

    reference: Annotated[str, AfterValidator(_reference)] = "model"
    metrics: Annotated[tuple[str, ...], Field(strict=False), AfterValidator(_drift_metrics)] = (
        "psi", "wasserstein", "missing", "out_of_range", "unseen",
    )  # fmt: skip
    false_alarms_per_week: Annotated[float, Field(gt=0, le=7)] = 0.1
    min_effect: Annotated[float, Field(ge=0, lt=1)] = 0.05
    min_rows: Annotated[int, Field(ge=1)] = 200


class QualitySection(ConfigSection):
    """How detection quality is measured, and when it raises an alarm."""

    window: Annotated[int, BeforeValidator(_duration(DAY, 31 * DAY)), AS_DURATION] = 7 * DAY
    confidence: Annotated[float, Field(ge=0.5, le=0.99)] = 0.9
    alarm_rate: Annotated[float, Field(ge=0.001, le=0.5)] = 0.02


class NotifySection(ConfigSection):
    """Who is notified of which events, and when. URLs hold passwords and tokens, so they are never printed."""

    urls: Annotated[tuple[Annotated[SecretStr, AfterValidator(_receiver_url)], ...], Field(strict=False)] = ()
    urls_file: str = ""
    urgent: Events = ("failure",)
    quiet_hours: Annotated[tuple[str, ...], Field(strict=False), AfterValidator(_quiet_hours)] = ()
    per_hour: Annotated[int, Field(ge=2)] = 20
    attempts: Annotated[int, Field(ge=1, le=100)] = 12
    backoff: Annotated[int, BeforeValidator(_duration(SECOND, DAY)), AS_DURATION] = MINUTE
    ping_url: Annotated[SecretStr, AfterValidator(_ping_url)] = SecretStr("")
    ping_url_file: str = ""

    @property
    def enabled(self) -> bool:
        """Whether any URL is configured."""
        return bool(self.urls)


WebhookEvent = Literal["flag.raised", "flag.answered", "strategy.changed", "model.promoted", "window.failed"]
WEBHOOK_EVENTS: tuple[WebhookEvent, ...] = get_args(WebhookEvent)


class WebhookSection(ConfigSection):
    """A program that is told of events by a signed request."""

    url: Annotated[SecretStr, AfterValidator(_webhook_url)]
    secret: SecretStr = SecretStr("")
    secret_env: Annotated[str, AfterValidator(_variable)] = ""
    secret_file: str = ""
    events: Annotated[
        tuple[WebhookEvent, ...], Field(strict=False, min_length=1), AfterValidator(_distinct)
    ] = WEBHOOK_EVENTS
    networks: Annotated[
        tuple[Annotated[str, AfterValidator(_network)], ...], Field(strict=False), AfterValidator(_distinct)
    ] = ()


FourEyesAction = Literal["promote", "undo", "erase", "role", "mute", "bulk_genuine"]


class WebSection(ConfigSection):
    """The console and the API: where they answer, how long a session lasts, and what needs two people."""

    host: Text = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 8321
    public_url: Annotated[str, AfterValidator(_public_url)] = ""
    allowed_hosts: Texts = ()
    trusted_proxies: Annotated[
        tuple[Annotated[str, AfterValidator(_network)], ...], Field(strict=False), AfterValidator(_distinct)
    ] = ()
    session_idle: Annotated[int, BeforeValidator(_duration(5 * MINUTE, 31 * DAY)), AS_DURATION] = HOUR
    session_absolute: Annotated[int, BeforeValidator(_duration(5 * MINUTE, 31 * DAY)), AS_DURATION] = (
        12 * HOUR
    )
    four_eyes: Annotated[tuple[FourEyesAction, ...], Field(strict=False), AfterValidator(_distinct)] = ()
    four_eyes_expire: Annotated[int, BeforeValidator(_duration(HOUR, 90 * DAY)), AS_DURATION] = 3 * DAY
    outward_reasons: Annotated[dict[str, str], AfterValidator(_outward_reasons)] = {}
    links: Annotated[dict[Text, str], AfterValidator(_links)] = {}
    bulk_rows: Annotated[int, Field(ge=1)] = 50
    bulk_amount: Annotated[float, Field(ge=0)] = 0.0


class OidcSection(ConfigSection):
    """The identity provider at which users log in, and which role its groups give them."""

    issuer: Annotated[str, AfterValidator(_issuer)] = ""
    client_id: str = ""
    client_secret_env: Annotated[str, AfterValidator(_variable)] = ""
    client_secret_file: str = ""
    scopes: Texts = ("openid", "profile", "offline_access")
    user_name: Text = "preferred_username"
    groups: Text = "groups"
    roles: dict[
        Text, Literal["viewer", "reviewer", "rule_author", "model_owner", "administrator", "auditor"]
    ] = {}
    passwords: bool = True


class Sections(ConfigSection):
    """Every section of config.toml. Durations are int µs; `schema_` is the section [schema]."""

    monitor: MonitorSection = MonitorSection()
    storage: StorageSection = StorageSection()
    schema_: SchemaSection = Field(default=SchemaSection(), alias="schema")
    format: FormatSection = FormatSection()
    source: dict[str, SourceSection] = Field(default_factory=dict)
    watch: dict[str, WatchSection] = Field(default_factory=dict)
    shadow: dict[str, ShadowSection] = Field(default_factory=dict)
    limit: dict[str, LimitSection] = Field(default_factory=dict)
    webhook: dict[str, WebhookSection] = Field(default_factory=dict)
    events: EventsSection = EventsSection()
    labels: LabelsSection = LabelsSection()
    features: FeaturesSection = FeaturesSection()
    training: TrainingSection = TrainingSection()
    outlier: OutlierSection = OutlierSection()
    strategy: StrategySection = StrategySection()
    costs: CostsSection = CostsSection()
    alerts: AlertsSection = AlertsSection()
    schedule: ScheduleSection = ScheduleSection()
    calendar: CalendarSection = CalendarSection()
    health: HealthSection = HealthSection()
    retention: RetentionSection = RetentionSection()
    drift: DriftSection = DriftSection()
    quality: QualitySection = QualitySection()
    notify: NotifySection = NotifySection()
    web: WebSection = WebSection()
    oidc: OidcSection = OidcSection()

    @property
    def case_entity(self) -> str:
        """The entity whose flags within 24 hours are one case, "" without entities: then each flag is a case."""
        return self.alerts.entity or next(iter(self.schema_.entities), "")

    @property
    def lookback(self) -> int:
        """How far back (µs) features look: the longest window plus the longest maturity of labels."""
        return self.features.windows[-1] + self.labels.longest_maturity

    @property
    def fraud_span(self) -> int:
        """
        How far back (µs) features count known frauds: `training.span`.

        With `retention.transactions` it is at most what is kept before the span of a training, so that a feature never depends on
        rows that have been deleted.
        """
        span, kept = self.training.span, self.retention.transactions
        return min(span, kept - span - self.training.every) if kept else span

    def for_challenger(self, name: str) -> Self:
        """Return the settings of the challenger [shadow.NAME]: these, with its overrides."""
        overrides = self.shadow[name].overrides
        parts = {part: getattr(self, part).model_copy(update=keys) for part, keys in overrides.items()}
        return self.model_copy(update=parts | {"shadow": {}})

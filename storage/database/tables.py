"""
The tables. `transactions` and `revisions` have one more column for every configured field.

The small tables have foreign keys; `transactions`, `scores` and the other long ones have none, since checking
each of a million rows costs more than the insert, and their rows come from code that just read the parent.
"""

import hashlib
import json
from dataclasses import dataclass

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.sql.elements import quoted_name
from sqlalchemy.types import TypeEngine

from storage.database.column_types import CurrencyAmount, IdText, Instant, Json, Money

VERSION = "0211"  # the newest migration (0200 is the first one of 0.2.0); versions grow
READABLE_FROM = "0208"  # the oldest schema version whose programs still read a database of this one
NAME_MAX = 63  # bytes of a name on Postgres
BY = quoted_name("by", quote=True)  # a key word of SQL

metadata = MetaData()


@dataclass(frozen=True)
class LossSettings:
    """
    What of a payment is at risk.

    Attributes
    ----------
    exposure
        The numeric field with the part of the amount that is at risk; empty for all of it.
    liability_shifted
        Fields with their values of payments of which nothing is at risk.
    fee
        What a dispute costs besides, in the base currency.
    """

    exposure: str = ""
    liability_shifted: tuple[tuple[str, tuple[str, ...]], ...] = ()
    fee: float = 0.0

    @property
    def is_whole_amount(self) -> bool:
        """Whether all of every amount is at risk."""
        return not (self.exposure or self.liability_shifted)

    @property
    def as_text(self) -> str:
        """The settings as text, equal for equal settings."""
        shifted = {name: sorted(values) for name, values in self.liability_shifted}
        values = {"exposure": self.exposure, "fee": float(self.fee), "liability_shifted": shifted}
        return json.dumps(values, sort_keys=True, ensure_ascii=False)


@dataclass(frozen=True)
class Fields:
    """
    The configured columns of `transactions`, and what the views of losses read of them.

    `refund_kinds` are the values of `kind` that give money back: such rows are stored, but never queued or scored.
    `case_entity` is the entity whose flags within 24 hours are one case, "" if each flag is a case.
    """

    entities: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()
    refund_kinds: tuple[str, ...] = ()
    case_entity: str = ""
    loss: LossSettings = LossSettings()

    def __post_init__(self) -> None:
        for name in ("entities", "categorical", "numeric", "refund_kinds"):
            object.__setattr__(self, name, tuple(getattr(self, name)))

    @property
    def text(self) -> tuple[str, ...]:
        """The columns that hold text: entities, then categorical fields."""
        return self.entities + self.categorical

    @property
    def names(self) -> tuple[str, ...]:
        """All columns, text first."""
        return self.text + self.numeric


def one_of(column: str, *values: str) -> CheckConstraint:
    """Allow only these values in a column."""
    return CheckConstraint(f"{column} IN ({', '.join(repr(value) for value in values)})")


monitor = Table(
    "monitor",
    metadata,
    Column("name", Text, primary_key=True),
    Column("created_at", Instant, nullable=False),
    # `horizon` is the newest as_of of any run, `visible_at` the newest instant at which a batch became visible:
    # a new batch becomes visible after both, whatever the clocks of two machines say.
    Column("horizon", Instant),
    Column("visible_at", Instant),
    # There are no notifications of runs that began before; NULL until notifications are configured.
    Column("notify_since", Instant),
    # Whether hashed values have a display form; false in a database that held bare hashes before these existed.
    Column("hash_displays", Boolean, nullable=False, server_default=false()),
    Column("case_entity", Text),  # the entity that the view `flag_cases` goes by; NULL for none
    # The oldest schema version whose programs can read this database: they read it, and write nothing.
    Column("readable_from", Text),
    # A value of no person, hashed with the key of `schema.hash`: another key is noticed. NULL until a field is hashed.
    Column("hash_key_check", Text),
    # Since when an SQLite file may have old bytes of what was erased, because another program was reading it.
    Column("overwrite_since", Instant),
)

batches = Table(
    "batches",
    metadata,
    Column("batch_id", Integer, primary_key=True),
    Column("kind", Text, one_of("kind", "transactions", "labels"), nullable=False),
    Column("source", Text, nullable=False),
    Column("status", Text, one_of("status", "loading", "done", "withdrawn"), nullable=False),
    Column("history", Boolean, nullable=False),
    # Payments that are scored as they arrive, each with an `arrived_at` of its own; `visible_at` is the newest of them.
    Column("on_arrival", Boolean, nullable=False, server_default=text("false")),
    Column("content_hash", Text),
    Column("read", Integer, nullable=False, server_default="0"),
    Column("accepted", Integer, nullable=False, server_default="0"),
    Column("duplicate", Integer, nullable=False, server_default="0"),
    Column("revised", Integer, nullable=False, server_default="0"),
    Column("rejected", Integer, nullable=False, server_default="0"),
    Column("holder", Text, nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("visible_at", Instant),
    Column("complete_through", Instant),
    CheckConstraint(
        "status <> 'done' OR (read = accepted + duplicate + revised + rejected AND visible_at IS NOT NULL)",
        name="batches_nothing_lost",
    ),
    Index(
        "batches_content",
        "kind",
        "content_hash",
        unique=True,
        sqlite_where=text("status = 'done'"),
        postgresql_where=text("status = 'done'"),
    ),
    sqlite_autoincrement=True,
)

rejected_rows = Table(
    "rejected_rows",
    metadata,
    Column("batch_id", ForeignKey("batches.batch_id"), primary_key=True),
    Column("row_number", Integer, primary_key=True),
    Column("row", Text, nullable=False),
    Column("reason", Text, nullable=False),
)

# Rows that lack nothing but a rate of their currency; an ingest takes them up once there is one.
waiting_rows = Table(
    "waiting_rows",
    metadata,
    Column("batch_id", ForeignKey("batches.batch_id"), primary_key=True),
    Column("row_number", Integer, primary_key=True),
    Column("transaction_id", IdText, nullable=False),
    Column("event_time", Instant, nullable=False),
    Column("currency", Text, nullable=False),
    Column("row", Text, nullable=False),  # the other columns of `transactions` as JSON, hashed fields hashed
    Column(
        "taken_up_by", Integer
    ),  # batch_id of the batch that took it up; while that is loading, the row still waits
    Index("waiting_rows_by_currency", "currency", "event_time"),
    Index("waiting_rows_by_transaction", "transaction_id"),
    Index("waiting_rows_by_take_up", "taken_up_by"),
)

# Rates of sources and watched folders of kind "rates", and of files that were ingested: the newest value of each day.
currency_rates = Table(
    "currency_rates",
    metadata,
    Column("currency", Text, primary_key=True),
    Column("day", Date, primary_key=True),
    Column("rate", Double, nullable=False),  # how much of the base currency one unit is worth
    Column("ingested_at", Instant, nullable=False),
    Column("source", Text, nullable=False),
)

# NULLs are never equal, so each column that may be NULL has a value of its own for it.
LABELS_ONCE = Index(
    "labels_once",
    "transaction_id",
    "source",
    "known_at",
    text("(CASE WHEN is_fraud THEN 1 WHEN NOT is_fraud THEN 0 ELSE 2 END)"),
    text("(COALESCE(type, ''))"),
    text("(COALESCE(stage, ''))"),
    text("(COALESCE(retracts, 0))"),
    unique=True,
)

LABEL_RETRACTIONS = Index(
    "labels_retractions",
    "retracts",
    sqlite_where=text("retracts IS NOT NULL"),
    postgresql_where=text("retracts IS NOT NULL"),
)

LABELS_OF_FRAUD = Index(
    "labels_of_fraud",
    "known_at",
    "transaction_id",
    sqlite_where=text("is_fraud = 1"),
    postgresql_where=text("is_fraud"),
)

labels = Table(
    "labels",
    metadata,
    Column("label_id", Integer, primary_key=True),
    Column("transaction_id", IdText, nullable=False),
    # NULL for what is neither: a dispute that is not about fraud, the end of a dispute, a retraction.
    Column("is_fraud", Boolean),
    Column("source", Text, nullable=False),
    Column("known_at", Instant, nullable=False),
    # Set for a label without a batch, such as a verdict; a batch's labels are recorded when it becomes visible.
    Column("recorded_at", Instant),
    Column("batch_id", Integer),
    Column(BY, Text, nullable=False),
    Column("type", Text),  # of the fraud or of the dispute; NULL with is_fraud NULL changes no label
    Column("reason", Text),  # the reason code of a dispute, as it was received
    Column("stage", Text, one_of("stage", "inquiry", "dispute", "won", "lost")),
    Column("amount", Money),  # disputed, in the base currency; NULL for the whole payment
    Column("retracts", Integer),  # label_id of the label that no longer holds once this one is known
    Column("bulk_id", Text),  # shared by labels that one person gave at once
    CheckConstraint("(batch_id IS NULL) = (recorded_at IS NOT NULL)", name="labels_recorded"),
    CheckConstraint("retracts IS NULL OR is_fraud IS NULL", name="labels_retraction"),
    LABELS_ONCE,
    LABEL_RETRACTIONS,
    LABELS_OF_FRAUD,
    # For labels that became known, or were ingested, since an instant.
    Index("labels_by_known_at", "known_at"),
    Index("labels_by_batch", "batch_id"),
    sqlite_autoincrement=True,
)

# What people said of payments, flagged or not; append-only. `label_id` is the label that came of it.
verdicts = Table(
    "verdicts",
    metadata,
    Column("verdict_id", Integer, primary_key=True),
    Column("transaction_id", IdText, nullable=False),
    Column(
        "verdict",
        Text,
        one_of("verdict", "fraud", "genuine", "no_opinion", "retracted"),
        nullable=False,
    ),
    Column("type", Text),  # of the fraud
    Column("action", Text, one_of("action", "blocked", "refunded", "contacted", "none"), nullable=False),
    Column("label_id", Integer),
    Column("bulk_id", Text),  # shared by verdicts that one person gave at once
    Column("note", Text),
    Column("at", Instant, nullable=False),
    Column(BY, Text, nullable=False),
    Index("verdicts_by_transaction", "transaction_id"),
    Index("verdicts_by_time", "at"),
    sqlite_autoincrement=True,
)

label_precedence = Table(
    "label_precedence",
    metadata,
    Column("source", Text, primary_key=True),
    Column("rank", Integer, nullable=False),
)

# The values of `kind` that give money back.
refund_kinds = Table("refund_kinds", metadata, Column("kind", Text, primary_key=True))

policies = Table(
    "policies",
    metadata,
    Column("policy", Text, primary_key=True),
    Column("starts_at", Instant, nullable=False),
    Column("planned_until", Instant),  # the ledger has every step of the schedule up to this instant
)

backfilled_spans = Table(
    "backfilled_spans",
    metadata,
    Column("policy", Text, primary_key=True),
    Column("span_start", Instant, primary_key=True),
    Column("span_end", Instant, primary_key=True),
)

queue = Table(
    "scoring_queue",
    metadata,
    Column("policy", Text, primary_key=True),
    Column("transaction_id", IdText, primary_key=True),
    sqlite_with_rowid=False,
)

ledger = Table(
    "ledger",
    metadata,
    Column("policy", Text, primary_key=True),
    Column("kind", Text, one_of("kind", "score", "train", "drift", "quality", "prune"), primary_key=True),
    Column("window_start", Instant, primary_key=True),
    Column("window_end", Instant, primary_key=True),
    Column("due_at", Instant, nullable=False),
    Column("status", Text, one_of("status", "pending", "running", "done", "failed"), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("not_before", Instant),  # of a failed entry: when it is retried; NULL for never
    Column("finished_at", Instant),
    Column("run_id", Integer),
    Column("counts", Json),
    Column("error", Text),
    # Of a running step: the worker that claimed it (its lease is "worker:ID"), and how often it was claimed, which fences
    # an earlier worker off.
    Column("worker", Text),
    Column("token", Integer, nullable=False, server_default="0"),
    Index("ledger_open", "policy", "status", "window_end"),
)

# Lengths of windows and times between trainings, from `effective_from` on: a change of schedule adds a row.
schedules = Table(
    "schedules",
    metadata,
    Column("policy", Text, primary_key=True),
    Column("effective_from", Instant, primary_key=True),
    Column("window_us", BigInteger, nullable=False),  # length of a window
    Column("train_every_us", BigInteger, nullable=False),  # time between trainings
    Column("timezone", Text, nullable=False),
    Column("decided_at", Instant, nullable=False),
)

# How far a polled query has been read.
source_cursors = Table(
    "source_cursors",
    metadata,
    Column("source", Text, primary_key=True),
    Column("cursor", Text, nullable=False),
    Column("read_at", Instant, nullable=False),
    Column("batch_id", Integer),
)

# Files of a watched folder that were ingested (done) or refused (failed).
watched_files = Table(
    "watched_files",
    metadata,
    Column("source", Text, primary_key=True),
    Column("path", Text, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("modified_ns", BigInteger, nullable=False),
    Column("status", Text, one_of("status", "done", "failed"), nullable=False),
    Column("processed_at", Instant, nullable=False),
    Column("batch_id", Integer),
    Column("error", Text),
    Column(
        "config_hash", Text
    ),  # of the settings that it was read by: a refused file is tried again by others
)

# Batches and runs that were undone: who did it, and why. `withdrawn_rows` has every row as it was.
withdrawals = Table(
    "withdrawals",
    metadata,
    Column("withdrawal_id", Integer, primary_key=True),
    Column("subject", Text, nullable=False),  # "batch 12", "run 7"
    Column("reason", Text, nullable=False),
    Column(BY, Text, nullable=False),
    Column("at", Instant, nullable=False),
    Column("counts", Json),
    sqlite_autoincrement=True,
)

withdrawn_rows = Table(
    "withdrawn_rows",
    metadata,
    Column("withdrawal_id", Integer, nullable=False),
    Column("table_name", Text, nullable=False),
    Column("transaction_id", IdText),
    Column("row", Json, nullable=False),
    Index("withdrawn_rows_by_withdrawal", "withdrawal_id", "table_name"),
    Index("withdrawn_rows_by_transaction", "transaction_id"),
)

runs = Table(
    "runs",
    metadata,
    Column("run_id", Integer, primary_key=True),
    Column("policy", Text, nullable=False),
    Column(
        "kind", Text, one_of("kind", "schedule", "backfill", "manual", "arrival", "train"), nullable=False
    ),
    Column("started_at", Instant, nullable=False),
    Column("finished_at", Instant),
    Column(
        "status", Text, one_of("status", "running", "done", "failed", "interrupted"), nullable=False
    ),  # interrupted: its process was stopped or died
    Column("newest_batch", Integer, nullable=False),
    Column("config", Text, nullable=False),
    Column("counts", Json),
    Column("error", Text),
    Column("worker", Text),  # of a running run: its process, whose lease is "worker:ID"
    sqlite_autoincrement=True,
)

choices = Table(
    "choices",
    metadata,
    Column("choice_id", Integer, primary_key=True),
    Column("policy", Text, nullable=False),
    Column("training_date", Instant, nullable=False),
    Column("run_id", Integer),
    Column("mature", Integer, nullable=False),
    Column("positives", Integer, nullable=False),
    Column("effective_positives", Double, nullable=False),
    Column("prevalence", Double),
    Column("prevalence_lower", Double),
    Column("prevalence_upper", Double),
    Column("strategy", Text, nullable=False),
    Column("proposed", Text),
    Column("outlier_share", Double),
    Column("rule", Text, nullable=False),
    Column("sentence", Text, nullable=False),
    Column("next_change", Text),  # which evidence would change the strategy
    Column("evidence", Json),
    Index("choices_by_date", "policy", "training_date"),
    sqlite_autoincrement=True,
)

models = Table(
    "models",
    metadata,
    Column("model_id", Integer, primary_key=True),
    Column("choice_id", ForeignKey("choices.choice_id")),
    Column("run_id", Integer),
    Column("trained_at", Instant, nullable=False),
    Column("strategy", Text, nullable=False),
    Column("span_start", Instant),
    Column("span_end", Instant),
    Column("n_mature", Integer),
    Column("n_fraud", Integer),
    Column("feature_names", Json, nullable=False),
    Column("fields", Json),  # the configured columns that the model reads
    Column("thresholds", Json, nullable=False),
    Column("config_hash", Text),
    Column("versions", Json),
    Column("sample_scores", Json),
    Column("sha256", Text, nullable=False),
    Column("artifact", LargeBinary, nullable=False),
    sqlite_autoincrement=True,
)

promotions = Table(
    "promotions",
    metadata,
    Column("policy", Text, primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("effective_from", Instant, nullable=False),
    Column("model_id", ForeignKey("models.model_id"), nullable=False),
    Column("reason", Text, nullable=False),
    Column(BY, Text, nullable=False),
    Column("promoted_at", Instant, nullable=False),
)

scores = Table(
    "scores",
    metadata,
    Column("policy", Text, primary_key=True),
    Column("transaction_id", IdText, primary_key=True),
    Column("run_id", Integer, nullable=False),
    Column("model_id", Integer, nullable=False),
    Column("score", Double, nullable=False),
    Column("outlier_score", Double),
    Column("fraud_probability", Double),
    Column("decision_value", Double),
    Column("threshold", Double),
    Column("channel", Text, nullable=False),
    Column("flagged", Boolean, nullable=False),
    Column("strategy", Text, nullable=False),
    # fraud_probability (or an upper guess, where that is NULL) × (exposure + fee), in the base currency
    Column("expected_loss", Double),
    Column("in_sample", Boolean),  # TRUE where the model was trained on it; NULL where it cannot have been
    sqlite_with_rowid=False,
)

flags = Table(
    "flags",
    metadata,
    Column("policy", Text, primary_key=True),
    Column("transaction_id", IdText, primary_key=True),
    Column("run_id", Integer, nullable=False),
    Column("model_id", Integer, nullable=False),
    Column("channel", Text, nullable=False),
    Column("reasons", Json, nullable=False),
    Column(
        "status", Text, one_of("status", "open", "fraud", "genuine", "closed", "expired"), nullable=False
    ),  # closed: without opinion
    Column("reviewed_at", Instant),  # since when it has this status; NULL while it is open
    Column("reviewer", Text),
    Column("muted_by", Integer),  # mute_id of the mute in force when the transaction happened
    # Copies of what never changes, so that a list in an order reads an index of this table alone (`review.flag_order`).
    Column("loss_order", Double),  # the expected loss, -1 without one
    Column("score", Double),
    Column("event_time", Instant),
    Column("amount_base", Money),
    Column("case_id", IdText),  # of its case in `cases`; NULL of a muted flag (`database.cases`)
    Index("flags_by_case", "case_id"),
    Index("flags_by_transaction", "transaction_id"),  # of whatever policy, for labels
    sqlite_with_rowid=False,
)
FLAG_ORDERS = tuple(
    Index(f"flags_by_{by}{name}", flags.c.policy, *columns, *keys, flags.c.transaction_id)
    for by, columns in (("status_", [flags.c.status]), ("", []))
    for name, keys in (
        ("loss", [flags.c.loss_order.desc(), flags.c.score.desc()]),
        ("time", [flags.c.event_time.desc()]),
        ("score", [flags.c.score.desc()]),
        ("amount", [flags.c.amount_base.desc()]),
    )
)

# Cases with an open flag, in the orders of the queue; written with each change of their flags (`database.cases`).
cases = Table(
    "cases",
    metadata,
    Column("policy", Text, primary_key=True),
    Column("case_id", IdText, primary_key=True),  # transaction_id of its first flag
    Column("channels", Text, nullable=False),  # of its open flags, but for the audit sample
    Column("open_flags", Integer, nullable=False),
    Column("loss", BigInteger, nullable=False),  # expected of its open flags, 1/10,000 of the base currency
    # `loss`, or of payments of the audit sample alone that of another case, drawn at random, which hides what they are.
    Column("rank", BigInteger, nullable=False),
    Column("newest_at", Instant, nullable=False),  # event_time of its newest open flag
    Column("newest_hour", Instant, nullable=False),  # the hour in which that was
    Column(
        "raised_hour", Instant, nullable=False
    ),  # the hour in which the first of its open flags was raised
    sqlite_with_rowid=False,
)
# With what filters read, and the first one with what is summed: a page and a sum over a part of it read an index alone.
CASE_ORDERS = tuple(
    Index(f"cases_by_{name}", cases.c.policy, *keys, cases.c.case_id, *(cases.c[other] for other in others))
    for name, keys, others in (
        ("rank", [cases.c.rank.desc()], ("channels", "newest_hour", "raised_hour", "open_flags", "loss")),
        ("raised", [cases.c.raised_hour, cases.c.rank.desc()], ("channels", "newest_hour")),
        ("time", [cases.c.newest_at.desc()], ("channels", "newest_hour", "raised_hour", "rank")),
    )
)

# How many cases the queue has of each kind, so that a page need not count them.
case_counts = Table(
    "case_counts",
    metadata,
    Column("policy", Text, primary_key=True),
    Column("channels", Text, primary_key=True),
    Column("newest_hour", Instant, primary_key=True),
    Column("raised_hour", Instant, primary_key=True),
    Column("cases", Integer, nullable=False),
    Column("flags", Integer, nullable=False),  # open ones
    Column("loss", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# Flags for the next digest: rows are added when flags are raised, and removed when the digest is written.
flag_notifications_pending = Table(
    "flag_notifications_pending",
    metadata,
    Column("policy", Text, primary_key=True),
    Column("transaction_id", IdText, primary_key=True),
    sqlite_with_rowid=False,
)

drift_metrics = Table(
    "drift_metrics",
    metadata,
    Column("policy", Text, primary_key=True),
    Column("window_start", Instant, primary_key=True),
    Column("window_end", Instant, primary_key=True),
    Column("feature", Text, primary_key=True),
    Column("metric", Text, primary_key=True),
    Column("value", Double),
    Column("threshold", Double),
    Column("alarm", Boolean, nullable=False),
    Column("n_reference", Integer, nullable=False),
    Column("n_current", Integer, nullable=False),
    Column("run_id", Integer, nullable=False),
    Column("effect", Double),  # size of the change on a scale that all metrics share
    Column("lower", Double),
    Column("upper", Double),
    Column("p_value", Double),
    Column("pooled", Integer, nullable=False, server_default="1"),  # windows added up for this value
    Column("suppressed_because", Text),  # why there is no value, or why this metric raises no alarm
    Column("detail", Json),
)

# Histograms of windows with too few rows, so that later windows can add them up without reading the rows again.
drift_histograms = Table(
    "drift_histograms",
    metadata,
    Column("policy", Text, primary_key=True),
    Column("window_start", Instant, primary_key=True),
    Column("window_end", Instant, primary_key=True),
    Column("model_id", Integer, nullable=False),
    Column("n", Integer, nullable=False),
    Column("histograms", LargeBinary, nullable=False),
    Column("run_id", Integer, nullable=False),
)

# One metric of a window: of all models (model_id 0) or one, of all channels (channel '') or one.
quality_metrics = Table(
    "quality_metrics",
    metadata,
    Column("policy", Text, primary_key=True),
    Column("window_start", Instant, primary_key=True),
    Column("window_end", Instant, primary_key=True),
    Column("model_id", Integer, primary_key=True),
    Column("channel", Text, primary_key=True),
    Column("metric", Text, primary_key=True),
    Column("kind", Text, one_of("kind", "estimated", "realised"), primary_key=True),
    Column("value", Double),  # NULL where it cannot be computed; `message` says why
    Column("lower", Double),
    Column("upper", Double),
    # Of an estimated metric: a realised value outside of these bounds raises an alarm.
    Column("alarm_below", Double),
    Column("alarm_above", Double),
    Column("n", Integer, nullable=False),  # number of rows that the value is a share, sum or mean of
    Column("alarm", Boolean, nullable=False),
    Column("message", Text),
    Column("as_of", Instant),  # labels known at this instant were used
    Column("run_id", Integer),
    Index("quality_metrics_by_metric", "policy", "metric", "kind", "window_start"),
)

# Each limit of [limit.NAME] at a local midnight. A limit with a field has rows of the values at or near it, and of the worst.
limit_checks = Table(
    "limit_checks",
    metadata,
    Column("name", Text, primary_key=True),
    Column("at", Instant, primary_key=True),  # labels and payments known at this instant were used
    Column("value", Text, primary_key=True),  # of `field`; "" for all payments
    Column("field", Text, nullable=False),  # "" for a limit on all payments
    Column("period_start", Instant, nullable=False),  # people are notified once a period, a calendar month
    Column("span_start", Instant, nullable=False),  # of the payments or reports that are counted
    Column("span_end", Instant, nullable=False),
    Column("level", Text, one_of("level", "ok", "near", "crossed"), nullable=False),
    Column("reports", Integer, nullable=False),
    Column("payments", Integer, nullable=False),
    Column("basis_points", Double),  # NULL without payments
    Column("limit_basis_points", Double, nullable=False),
    Column("share", Double, nullable=False),  # of the limit
    Column("expected_basis_points", Double),  # at the end of the span; NULL without a forecast
    Column("expected_share", Double),
)

leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    # Machine, boot, PID namespace, pid and a random part: the lease of a process that died here is free at once.
    Column("process", Text, nullable=False),
    Column("token", Integer, nullable=False),
    Column("expires_at", Instant),  # by the database's clock; NULL once released
)

# How each part of a tick ended the last time: feeds ("watch.NAME", "source.NAME"), "run", "limits", "notify", "ping",
# challengers ("shadow.NAME"); and "tick", the whole.
tick_steps = Table(
    "tick_steps",
    metadata,
    Column("name", Text, primary_key=True),
    Column("ended_at", Instant, nullable=False),
    Column("succeeded_at", Instant),  # the last time without an error; NULL for never
    Column("failing_since", Instant),  # NULL while it works
    Column("recovered_from", Instant),  # the `failing_since` of the newest failure that has ended
    Column("recovered_at", Instant),  # when that one ended
    Column("failures", Integer, nullable=False),  # in a row
    Column("code", Text),
    Column("error", Text),
)

# Values of a person that prune and erase leave alone, with the reason, until an instant.
holds = Table(
    "holds",
    metadata,
    Column("hold_id", Integer, primary_key=True),
    Column("name", Text, nullable=False),  # of the entity column
    Column("value", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column(BY, Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("until", Instant, nullable=False),
    Column("ended_at", Instant),
    Column("ended_by", Text),
    sqlite_autoincrement=True,
)

audit = Table(
    "audit",
    metadata,
    Column("audit_id", Integer, primary_key=True),
    Column("at", Instant, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),  # "batch 12", "model 3", a transaction_id
    Column("before", Json),
    Column("after", Json),
    Column("os_user", Text),  # who the operating system says it was
    Column("database_user", Text),  # the same of the database; NULL on SQLite
    # `hash` covers the row and the hash of the row before it. It covers `content_hash` instead of `before` and `after`, so that
    # a person can be erased from them: `redacted_by` is then the audit_id of the entry that says so, and `salt`, without which
    # `content_hash` tells nothing of what was there, is gone. NULL before 0204.
    Column("content_hash", Text),
    Column("hash", Text),
    Column("redacted_by", Integer),
    Column("salt", Text),
    sqlite_autoincrement=True,
)

# Notifications, one row per message and receiver; the same key is sent to a receiver only once.
outbox = Table(
    "outbox",
    metadata,
    Column("message_id", Integer, primary_key=True),
    Column("key", Text, nullable=False),
    Column("target", Integer, nullable=False),  # position in notify.urls, from 1: the URL itself is a secret
    Column("event", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("due_at", Instant, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column(
        "status",
        Text,
        one_of("status", "pending", "sending", "sent", "merged", "failed", "dropped"),
        nullable=False,
    ),
    Column("sent_at", Instant),
    Column("merged_into", Integer),  # message_id of the message that was sent instead
    Column("error", Text),
    UniqueConstraint("key", "target", name="outbox_once"),
    Index("outbox_by_status", "status", "target", "sent_at"),
    sqlite_autoincrement=True,
)

# What people write about a payment, without answering.
notes = Table(
    "notes",
    metadata,
    Column("note_id", Integer, primary_key=True),
    Column("transaction_id", IdText, nullable=False),
    Column("text", Text, nullable=False),
    Column("at", Instant, nullable=False),
    Column(BY, Text, nullable=False),
    Index("notes_by_transaction", "transaction_id"),
    Index("notes_by_time", "at"),
    sqlite_autoincrement=True,
)

# Flags that somebody is at work on, so that nobody else begins; a claim ends by itself at `until`.
claims = Table(
    "claims",
    metadata,
    Column("policy", Text, primary_key=True),
    Column("transaction_id", IdText, primary_key=True),
    Column(BY, Text, nullable=False),
    Column("claimed_at", Instant, nullable=False),
    Column("until", Instant, nullable=False),
    sqlite_with_rowid=False,
)

# Filters of the queue under names, each user's own: its address with them, without an entity.
saved_filters = Table(
    "saved_filters",
    metadata,
    Column("user_id", ForeignKey("users.user_id"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("path", Text, nullable=False),
)

# Answers to requests with an Idempotency-Key, of the last day: the same request again gets the same answer.
idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("caller", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("request_hash", Text, nullable=False),
    Column("answer", Json, nullable=False),
    Column("at", Instant, nullable=False),
    Index("idempotency_keys_by_time", "at"),
)

# Muted flags are still written, with `muted_by`. `ended_at` is set when a person ends a mute before `until`.
mutes = Table(
    "mutes",
    metadata,
    Column("mute_id", Integer, primary_key=True),
    Column("kind", Text, one_of("kind", "entity", "feature", "channel"), nullable=False),
    Column("name", Text, nullable=False),  # name of the entity column, the feature or the channel
    Column("value", Text),  # value of the entity
    Column("reason", Text, nullable=False),
    Column(BY, Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("effective_from", Instant, nullable=False),
    Column("until", Instant, nullable=False),
    Column("ended_at", Instant),
    Column("ended_by", Text),
    CheckConstraint("(kind = 'entity') = (value IS NOT NULL)", name="mutes_value"),
    sqlite_autoincrement=True,
)

# Analysts' rules: transactions that match are always flagged.
rules = Table(
    "rules",
    metadata,
    Column("rule_id", Integer, primary_key=True),
    Column("text", Text, nullable=False),
    Column(
        "fields", Json, nullable=False
    ),  # configured columns, windows and maturity when the rule was added
    Column("reason", Text, nullable=False),
    Column(BY, Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("effective_from", Instant, nullable=False),
    Column("until", Instant, nullable=False),
    Column("ended_at", Instant),
    Column("ended_by", Text),
    sqlite_autoincrement=True,
)

readiness = Table(
    "readiness",
    metadata,
    Column("policy", Text, primary_key=True),
    Column("training_date", Instant, primary_key=True),
    Column("rank", Integer, primary_key=True),  # errors first
    Column("level", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("remedy", Text, nullable=False),
    Column("numbers", Json, nullable=False),
    Column("run_id", Integer),
    one_of("level", "error", "warning", "hint"),
)

comparisons = Table(
    "comparisons",
    metadata,
    Column("comparison_id", Integer, primary_key=True),
    Column("at", Instant, nullable=False),
    Column(BY, Text, nullable=False),
    Column("config_text", Text, nullable=False),
    Column("settings", Json, nullable=False),
    Column("folds", Json, nullable=False),  # spans and counts
    Column("notes", Json, nullable=False),  # by technique
    Column("sentence", Text, nullable=False),
    Column(
        "curves", Json
    ),  # by technique recall and precision as the threshold falls; NULL of older comparisons
    sqlite_autoincrement=True,
)

comparison_results = Table(
    "comparison_results",
    metadata,
    Column("comparison_id", ForeignKey("comparisons.comparison_id"), primary_key=True),
    Column("technique", Text, primary_key=True),
    Column("metric", Text, primary_key=True),
    Column("rank", Integer, nullable=False),  # of the technique, best first
    Column("value", Double),
    Column("lower", Double),
    Column("upper", Double),
)

# Each candidate compared with the champion on the newest window with mature labels; NULL where nothing could be
# compared.
promotion_checks = Table(
    "promotion_checks",
    metadata,
    Column("policy", Text, primary_key=True),
    Column("model_id", ForeignKey("models.model_id"), primary_key=True),
    Column("training_date", Instant, nullable=False),
    Column("champion_id", Integer),  # model_id of the champion
    Column("verdict", Text, one_of("verdict", "promoted", "rejected"), nullable=False),
    Column("rule", Text, nullable=False),
    Column("sentence", Text, nullable=False),
    Column("window_start", Instant),
    Column("window_end", Instant),
    Column("transactions", Integer),
    Column("frauds", Integer),
    Column("effective_frauds", Double),
    Column("ap", Double),
    Column("ap_champion", Double),
    Column("ap_difference", Double),
    Column("ap_lower", Double),
    Column("ap_upper", Double),
    Column("cost", Double),  # of the window, in the base currency
    Column("cost_champion", Double),
    Column("cost_difference", Double),
    Column("cost_lower", Double),
    Column("cost_upper", Double),
    Column("run_id", Integer),
    Index("promotion_checks_by_date", "policy", "training_date"),
)

# Who may log in. A user who is disabled keeps the row, since others name it.
users = Table(
    "users",
    metadata,
    Column("user_id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),  # in lower case; `actor` of what this user does
    Column("role", Text, nullable=False),
    Column("password_hash", Text),  # argon2id; NULL for a user who logs in at the identity provider only
    Column("issuer", Text),  # the identity provider and its name for the user; NULL for a local user
    Column("subject", Text),
    Column("refresh_token", LargeBinary),  # encrypted
    Column("checked_at", Instant),  # when the identity provider last confirmed the role
    Column("check_claimed_at", Instant),  # when a process last began to ask it
    Column("created_at", Instant, nullable=False),
    Column(BY, Text, nullable=False),
    Column("disabled_at", Instant),
    UniqueConstraint("issuer", "subject", name="users_by_subject"),
    sqlite_autoincrement=True,
)

# Of secrets only hashes are stored.
user_sessions = Table(
    "user_sessions",
    metadata,
    Column("session_id", Integer, primary_key=True),
    Column("secret_hash", Text, nullable=False, unique=True),
    Column("user_id", ForeignKey("users.user_id"), nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("used_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("ended_at", Instant),
    Index("user_sessions_by_user", "user_id"),
    sqlite_autoincrement=True,
)

api_tokens = Table(
    "api_tokens",
    metadata,
    Column("token_id", Integer, primary_key=True),
    Column("name", Text, nullable=False),  # of the program
    Column("secret_hash", Text, nullable=False, unique=True),
    Column("role", Text, nullable=False),
    Column("per_minute", Integer, nullable=False),  # requests
    Column("user_id", ForeignKey("users.user_id")),  # who issued it; NULL for the operator of the machine
    Column(BY, Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("last_used_at", Instant),
    Column("revoked_at", Instant),
    Column("revoked_by", Text),
    Index("api_tokens_by_user", "user_id"),
    sqlite_autoincrement=True,
)

# Log-ins by password of the last day, by which they are limited. A name may be a password in the wrong field, so it is hashed.
log_in_attempts = Table(
    "log_in_attempts",
    metadata,
    Column("attempt_id", Integer, primary_key=True),
    Column("at", Instant, nullable=False),
    Column("name_hash", Text, nullable=False),
    Column("address", Text, nullable=False),  # IPv4, or the first 64 bits of IPv6
    Column("succeeded", Boolean, nullable=False),
    Index("log_in_attempts_by_name", "name_hash", "at"),
    Index("log_in_attempts_by_address", "address", "at"),
    sqlite_autoincrement=True,
)

# What a user asked for that another one must approve.
approvals = Table(
    "approvals",
    metadata,
    Column("approval_id", Integer, primary_key=True),
    Column("action", Text, nullable=False),
    Column("request", Json, nullable=False),
    Column("user_id", ForeignKey("users.user_id"), nullable=False),
    Column("requested_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column(
        "status", Text, one_of("status", "pending", "approved", "done", "failed", "rejected"), nullable=False
    ),
    Column("decided_by", ForeignKey("users.user_id")),
    Column("decided_at", Instant),
    Column("error", Text),  # of one that was approved and failed
    Index("approvals_by_status", "status", "expires_at"),
    sqlite_autoincrement=True,
)

# One random key, made when it is first needed, from which others are derived. It protects what leaves the database (values in
# addresses, positions in lists) from those who cannot read the database.
web_keys = Table(
    "web_keys",
    metadata,
    Column("key_id", Integer, primary_key=True),
    Column("secret", LargeBinary, nullable=False),
    Column("created_at", Instant, nullable=False),
)


def field_columns(fields: Fields) -> list[Column[str] | Column[float]]:
    """One nullable column a configured field."""
    texts: list[Column[str] | Column[float]] = [Column(name, Text) for name in fields.text]
    return texts + [Column(name, Double) for name in fields.numeric]


def content_columns() -> list[Column[str] | Column[int] | Column[float]]:
    """The columns besides the configured ones that `transactions` and `revisions` share."""
    return [
        Column("event_time", Instant, nullable=False),
        Column("amount", CurrencyAmount, nullable=False),  # in `currency`
        Column("amount_base", Money, nullable=False),  # in the base currency
        Column("currency", Text),
        Column("kind", Text),
        Column("original_id", IdText),
    ]


def transactions_table(fields: Fields) -> Table:
    """`transactions` with the configured fields: the first version of each row, which features use."""
    return Table(
        "transactions",
        MetaData(),
        Column("transaction_id", IdText, primary_key=True),
        *content_columns(),
        Column("batch_id", Integer, nullable=False),
        # Of a payment that was scored on arrival: when it arrived, and the newest promotion of the policy then.
        Column("arrived_at", Instant),
        Column("arrived_promotion", Integer),
        *field_columns(fields),
        Index("transactions_by_time", "event_time"),
        Index(
            "transactions_by_original",
            "original_id",
            sqlite_where=text("original_id IS NOT NULL"),
            postgresql_where=text("original_id IS NOT NULL"),
        ),
        *[Index(index_name(name), name, "event_time") for name in fields.entities],
    )


def revisions_table(fields: Fields) -> Table:
    """`revisions`: later versions of a transaction, counted from 1, which money reports use."""
    return Table(
        "revisions",
        MetaData(),
        Column("transaction_id", IdText, primary_key=True),
        Column("revision", Integer, primary_key=True),
        *content_columns(),
        Column("batch_id", Integer, nullable=False),
        *field_columns(fields),
    )


def index_name(column: str) -> str:
    """Name of the index on an entity column: readable, and short enough for Postgres."""
    name = f"transactions_by_{column}"
    return name if len(name) <= NAME_MAX else name[:50] + hashlib.sha256(column.encode()).hexdigest()[:12]


def field_types(fields: Fields) -> dict[str, TypeEngine[str] | TypeEngine[float]]:
    """The type of every configured field's column."""
    return {column.name: column.type for column in field_columns(fields)}

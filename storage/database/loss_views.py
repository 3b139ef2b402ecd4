"""
What payments lose and what flags stop, in SQL: as views of what is known by now, and as queries of what was known at `:as_of`.

`at_risk` of a payment is what its fraud would cost, gross and as the payment was first seen: exposure and fee. `loss` is what
a fraud costs that nobody stops, net: without what came back before the first dispute and what was won back.
"""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection, Dialect, text

from storage.database.database import Store
from storage.database.tables import Fields

NAMES = ("flag_outcomes", "transaction_losses", "loss_settings")  # in an order in which they can be dropped
INSTANTS = (
    "reported_at",
    "disputed_at",
    "answered_at",
    "refunded_at",
    "stopped_at",
)  # columns of these views
OWN = "('review', 'audit', 'investigation')"  # sources of the team's own labels; any other one reports from outside

# `claim` is how much is disputed, `outcome` how a dispute stands: of each the newest row counts. A person who cleared a
# payment has not answered it as fraud before.
REPORTS = """
    SELECT transaction_id,
           MIN(CASE WHEN outside THEN known_at END) AS reported_at,
           MIN(CASE WHEN outside AND stage <> 'inquiry' THEN known_at END) AS disputed_at,
           MAX(CASE WHEN claim = 1 AND claim_rank = 1 THEN amount END) AS claimed,
           MAX(CASE WHEN outcome = 1 AND outcome_rank = 1 AND stage = 'won' THEN 1 ELSE 0 END) AS won,
           MAX(CASE WHEN outcome = 1 AND outcome_rank = 1 AND stage = 'won' THEN amount END) AS won_amount,
           MIN(CASE WHEN is_fraud AND NOT outside AND (cleared_at IS NULL OR known_at > cleared_at) THEN known_at END)
               AS answered_at
    FROM (
        SELECT v.*,
               ROW_NUMBER() OVER (PARTITION BY transaction_id, claim ORDER BY known_at DESC, label_id DESC) AS claim_rank,
               ROW_NUMBER() OVER (PARTITION BY transaction_id, outcome ORDER BY known_at DESC, label_id DESC) AS outcome_rank,
               MAX(CASE WHEN NOT is_fraud AND NOT outside THEN known_at END) OVER (PARTITION BY transaction_id) AS cleared_at
        FROM (
            SELECT l.label_id, l.transaction_id, l.is_fraud, l.known_at, l.amount, COALESCE(l.stage, '') AS stage,
                   l.source NOT IN {own} AS outside,
                   CASE WHEN l.source NOT IN {own} AND COALESCE(l.stage, '') NOT IN ('inquiry', 'won')
                             AND l.amount IS NOT NULL THEN 1 ELSE 0 END AS claim,
                   CASE WHEN l.source NOT IN {own} AND l.stage IN ('dispute', 'won', 'lost') THEN 1 ELSE 0 END AS outcome
            FROM labels l LEFT JOIN batches b ON b.batch_id = l.batch_id
            WHERE l.retracts IS NULL AND (l.is_fraud IS NULL OR l.is_fraud OR l.source IN {own}) AND {label}
              AND NOT EXISTS (
                  SELECT 1 FROM labels x LEFT JOIN batches y ON y.batch_id = x.batch_id
                  WHERE x.transaction_id = l.transaction_id AND x.retracts = l.label_id AND {retraction}
              )
        ) v
    ) ranked
    GROUP BY transaction_id"""

PAYMENTS = """
    SELECT t.transaction_id, {amount} AS amount, {exposure} AS exposure, {first_exposure} + {fee} AS at_risk,
           COALESCE(({refunds}), 0) AS refunded_before, CASE WHEN d.disputed_at IS NULL THEN 0 ELSE {fee} END AS fee,
           d.reported_at, d.disputed_at, d.answered_at, d.claimed, d.won, d.won_amount
    FROM {rows} LEFT JOIN ({reports}) d ON d.transaction_id = t.transaction_id"""
REFUNDS = """
    SELECT {value} FROM visible_transactions g
    WHERE g.original_id = {t}.transaction_id AND g.kind IN (SELECT kind FROM refund_kinds)
      AND ({d}.disputed_at IS NULL OR g.event_time < {d}.disputed_at) {known}"""
# `open` is what is or would be disputed: as much as was claimed, else what has not come back.
LOSSES = """
    SELECT transaction_id, amount, exposure, at_risk, refunded_before,
           CASE WHEN won = 1 THEN {won} ELSE 0 END AS recovered, fee,
           CASE WHEN won = 1 THEN open - {won} ELSE open END + fee AS loss,
           reported_at, disputed_at, answered_at, CASE WHEN refunded_before >= amount THEN ({refunded_at}) END AS refunded_at
    FROM (SELECT p.*, {open} AS open FROM ({payments}) p) q"""

# A flag could be seen from the end of its window on, or from the payment's arrival if that was later: the same for a
# schedule and a backfill.
OUTCOMES = """
    SELECT policy, transaction_id, at_risk, answered_at, in_time, stopped_at,
           CASE WHEN stopped_at IS NULL THEN loss ELSE fee END AS loss
    FROM (
        SELECT f.policy, l.transaction_id, l.at_risk, l.loss, l.fee, l.answered_at,
               COALESCE(l.answered_at < l.reported_at, l.answered_at IS NOT NULL) AS in_time,
               (SELECT MIN(at) FROM (
                   SELECT v.at FROM verdicts v
                   WHERE v.transaction_id = l.transaction_id AND v.action IN ('blocked', 'refunded')
                     AND (l.disputed_at IS NULL OR v.at < l.disputed_at) {verdict_known}
                     AND NOT EXISTS (
                         SELECT 1 FROM verdicts w WHERE w.transaction_id = v.transaction_id
                         AND w.verdict = 'retracted' AND w.verdict_id > v.verdict_id {retraction_known}
                     )
                   UNION ALL
                   SELECT l.refunded_at WHERE l.refunded_at >= t.ingested_at AND l.refunded_at >= COALESCE((
                       SELECT e.window_end FROM ledger e
                       WHERE e.policy = f.policy AND e.kind = 'score' AND e.window_start <= t.event_time
                       ORDER BY e.window_start DESC LIMIT 1
                   ), t.ingested_at)
               ) stops) AS stopped_at
        FROM flags f
        JOIN {losses} l ON l.transaction_id = f.transaction_id
        JOIN visible_transactions t ON t.transaction_id = f.transaction_id
        WHERE f.channel <> 'audit' {of_policy}
    ) judged"""


@dataclass(frozen=True)
class LossQueries:
    """The queries for a database with these fields: of what is known by now, or at `:as_of`."""

    dialect: Dialect
    fields: Fields
    as_of: bool = False

    def losses(self, rows: str | None = None) -> str:
        """
        Money and instants of each visible transaction.

        `refunded_at` is set where all of it came back before a dispute.

        Parameters
        ----------
        rows
            A table of the transaction_ids that are asked for; all by default.
        """
        all_rows = "visible_transactions t"
        asked = f"{rows} a JOIN {all_rows} ON t.transaction_id = a.transaction_id"
        fee = repr(float(self.fields.loss.fee))
        payments = PAYMENTS.format(
            amount=self._newest("t", _amount),
            exposure=self._newest("t", self._exposure),
            first_exposure=self._exposure("t"),
            fee=fee,
            refunds=self._refunds(f"SUM(ABS({self._newest('g', _amount)}))", t="t", d="d"),
            rows=asked if rows else all_rows,
            reports=self._reports(),
        )
        return LOSSES.format(
            won=self._least("COALESCE(won_amount, open)", "open"),
            refunded_at=self._refunds("MAX(g.event_time)", t="q", d="q"),
            open=self._least(
                f"COALESCE(claimed, {self._positive('exposure - refunded_before')})", "exposure"
            ),
            payments=payments,
        )

    def outcomes(self, losses: str, of_policy: str = "") -> str:
        """What became of each flag; `losses` is a table or view of `losses()`, `of_policy` a condition on flags `f`."""
        return OUTCOMES.format(
            losses=losses,
            of_policy=of_policy,
            verdict_known=self._if_as_of("AND v.at <= :as_of"),
            retraction_known=self._if_as_of("AND w.at <= :as_of"),
        )

    def _exposure(self, x: str) -> str:
        return exposure(self.dialect, self.fields, x)

    def _reports(self) -> str:
        return REPORTS.format(own=OWN, label=self._label("l", "b"), retraction=self._label("x", "y"))

    def _label(self, x: str, batch: str) -> str:
        """Whether label `x` of a batch is visible, and known."""
        recorded = f"CASE WHEN {x}.batch_id IS NULL THEN {x}.recorded_at WHEN {batch}.history THEN {x}.known_at ELSE {batch}.visible_at END"
        # `NOT (a > b)` and not `a <= b`: SQLite would read all labels in the order of the index on known_at.
        known = f" AND NOT ({x}.known_at > :as_of) AND {recorded} <= :as_of"
        return f"({x}.batch_id IS NULL OR {batch}.status = 'done'){self._if_as_of(known)}"

    def _refunds(self, value: str, t: str, d: str) -> str:
        """A value of the refunds of transaction `t` before its dispute in `d`."""
        known = self._if_as_of("AND g.event_time <= :as_of AND g.ingested_at <= :as_of")
        return REFUNDS.format(value=value, t=t, d=d, known=known)

    def _newest(self, x: str, value: Callable[[str], str]) -> str:
        """The value of the newest version of row `x` of `visible_transactions`."""
        known = self._if_as_of("AND (n.history OR n.visible_at <= :as_of)")
        return f"""COALESCE((
            SELECT {value("r")} FROM revisions r JOIN batches n ON n.batch_id = r.batch_id
            WHERE r.transaction_id = {x}.transaction_id AND n.status = 'done' {known} ORDER BY r.revision DESC LIMIT 1
        ), {value(x)})"""

    def _if_as_of(self, condition: str) -> str:
        return condition if self.as_of else ""

    def _least(self, first: str, second: str) -> str:
        return f"{'LEAST' if self.dialect.name == 'postgresql' else 'MIN'}({first}, {second})"

    def _positive(self, value: str) -> str:
        return _positive(self.dialect, value)


def known_at_instant(store: Store) -> LossQueries:
    """The queries with the parameter `:as_of`."""
    return LossQueries(store.engine.dialect, store.fields, as_of=True)


def exposure(dialect: Dialect, fields: Fields, x: str) -> str:
    """
    SQL for what is at risk of row `x` of `transactions` or `revisions`, in the base currency, never negative.

    The field `costs.exposure` is in the currency of the payment, so it is converted as its amount was.
    """
    quote, loss = dialect.identifier_preparer.quote, fields.loss
    at_risk = f"{x}.amount_base"
    if loss.exposure:
        field = f"{x}.{quote(loss.exposure)}"
        converted = f"{field} * COALESCE({x}.amount_base / NULLIF({x}.amount, 0), 1)"
        at_risk = f"COALESCE(ROUND(CAST({converted} AS NUMERIC), 4), {x}.amount_base)"
    at_risk = _positive(dialect, at_risk)
    shifted = " OR ".join(
        f"{x}.{quote(name)} IN ({', '.join(map(_literal, values))})"
        for name, values in loss.liability_shifted
    )
    return f"CASE WHEN {shifted} THEN 0 ELSE {at_risk} END" if shifted else at_risk


def create(connection: Connection, fields: Fields) -> None:
    """Create the views; `visible_transactions` must be there."""
    queries = LossQueries(connection.dialect, fields)
    for name, sql in (
        ("loss_settings", f"SELECT {_literal(fields.loss.as_text)} AS settings"),
        ("transaction_losses", queries.losses()),
        ("flag_outcomes", queries.outcomes("transaction_losses")),
    ):
        connection.execute(text(f"CREATE VIEW {name} AS {sql}"))


def stored_settings(connection: Connection) -> str:
    """The settings that the views were created with, as `LossSettings.as_text` has them."""
    return str(connection.scalar(text("SELECT settings FROM loss_settings")))


def _amount(x: str) -> str:
    return f"{x}.amount_base"


def _positive(dialect: Dialect, value: str) -> str:
    return f"{'GREATEST' if dialect.name == 'postgresql' else 'MAX'}({value}, 0)"


def _literal(value: str) -> str:
    """A text constant in SQL that `sqlalchemy.text` reads, to which a colon begins a parameter."""
    return "'" + value.replace("'", "''").replace(":", "\\:") + "'"

"""A one-page text summary of a span: strategy choices, flags, fraud caught and missed, and useful next commands."""

import textwrap
from collections.abc import Iterator

from detectors.model.auto_detector import NOVELTY
from pipeline.config.config import Config
from pipeline.monitoring.quality_text import paragraph
from pipeline.sanitize import for_terminal
from storage.database.database import Store
from storage.queries import listings
from storage.queries.choices import choice_page
from storage.queries.flags import top_flags
from storage.queries.monitoring import QualityFilter, drift_alarms, quality_page

WIDTH = 96
TOP = 5  # flags shown


def summary_lines(store: Store, config: Config, policy: str, since: int, until: int) -> Iterator[str]:
    """The lines of the summary."""
    yield from _choices(store, policy)
    yield from _outcome(store, config, policy, since, until)
    yield from _quality(store, config, policy, since, until)
    yield from _top(store, config, policy, since, until)
    yield from _drift(store, policy, since, until)
    yield from _next()


def _heading(text: str) -> list[str]:
    return ["", text, "─" * len(text)]


def _choices(store: Store, policy: str) -> Iterator[str]:
    yield from _heading("Strategy choices")
    rows = choice_page(store, policy, 1000).rows
    if not rows:
        yield "  no training has chosen a strategy yet"
        return
    before = ""
    for row in reversed(rows):
        mark = "→" if row["strategy"] != before else " "
        before = row["strategy"]
        frauds = f"{row['effective_positives']:,.0f} effective frauds"
        yield f"  {row['training_date']:%Y-%m-%d} {mark} {row['strategy']:<15} {frauds:>22} among {row['mature']:,} mature"
    yield ""
    yield from textwrap.wrap(
        f"Now: {rows[0]['sentence']} Next change: {rows[0]['next_change']}",
        WIDTH,
        initial_indent="  ",
        subsequent_indent="  ",
    )


def _outcome(store: Store, config: Config, policy: str, since: int, until: int) -> Iterator[str]:
    yield from _heading("Outcome")
    outcome = listings.outcome(store, policy, since, until)
    currency = config.schema_.base_currency
    frauds = outcome["caught"] + outcome["missed"]
    yield f"  {outcome['scored']:,} payments scored, {outcome['flagged']:,} flagged for review"
    if frauds:
        yield (
            f"  caught {outcome['caught']:,} of {frauds:,} frauds known by now ({outcome['caught'] / frauds:.0%}), worth "
            f"{outcome['caught_money']:,.0f} {currency}; missed {outcome['missed']:,}, worth {outcome['missed_money']:,.0f} {currency}"
        )
    channels = _channels(store, policy, since, until)
    yield "  " + "; ".join(
        f"{channel}: {total:,} flags, {fraud:,} of them known fraud ({fraud / total:.0%})"
        for channel, (total, fraud) in channels.items()
    )
    total, fraud = channels.get(NOVELTY, (0, 0))
    if total and not fraud:
        yield f"  channel {NOVELTY}, the outlier detector's own share of flags, has found no known fraud yet: it looks for fraud that nobody labels yet"


def _quality(store: Store, config: Config, policy: str, since: int, until: int) -> Iterator[str]:
    totals = quality_page(store, policy, QualityFilter(since, until)).rows
    if not totals:
        return
    yield from _heading("Detection quality")
    by_channel = quality_page(store, policy, QualityFilter(since, until, "realised", "channel")).rows
    for line in paragraph(totals, by_channel, config.schema_.base_currency):
        yield from textwrap.wrap(line, WIDTH, initial_indent="  ", subsequent_indent="      ")


def _channels(store: Store, policy: str, since: int, until: int) -> dict[str, tuple[int, int]]:
    totals: dict[str, tuple[int, int]] = {}
    for row in listings.by_channel(store, policy, since, until):
        total, fraud = totals.get(row["channel"], (0, 0))
        totals[row["channel"]] = (
            total + row["flags"],
            fraud + (row["flags"] if row["status"] == "fraud" else 0),
        )
    return totals


def _top(store: Store, config: Config, policy: str, since: int, until: int) -> Iterator[str]:
    yield from _heading("Highest scores, with reasons")
    for row in top_flags(store, policy, since, until, TOP):
        label = {None: "no label"}.get(row["is_fraud"], "fraud" if row["is_fraud"] else "genuine")
        yield (
            f"  {for_terminal(row['transaction_id'])}  {row['event_time']:%Y-%m-%d %H:%M}  {row['amount_base']:>10,.2f} "
            f"{config.schema_.base_currency}  score {row['score']:.4f}  {row['channel']}  {label}"
        )
        for reason in row["reasons"][:3]:
            yield f"      {for_terminal(reason['text'])}"


def _drift(store: Store, policy: str, since: int, until: int) -> Iterator[str]:
    yield from _heading("Drift from the training sample")
    alarms = drift_alarms(store, policy, since, until)
    if not alarms:
        yield "  no feature and no score exceeded its threshold"
    for row in alarms[:TOP]:
        yield (
            f"  {row['feature']}: {row['metric']} above its threshold in {row['windows']:,} windows, "
            f"{row['highest']:.2f} at most"
        )


def _next() -> Iterator[str]:
    yield from _heading("Next commands")
    yield "  fraudwatch flags list --status open --limit 10     flags that need a review"
    yield "  fraudwatch verdict TRANSACTION_ID fraud       record a verdict; it becomes a label"
    yield "  fraudwatch strategy list                      all choices with their rules"

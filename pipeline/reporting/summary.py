"""One page of text: what was chosen, flagged, caught and missed in a span, and what to type next."""

import textwrap
from collections.abc import Iterator

from detectors.model.auto_detector import NOVELTY
from pipeline.config.config import Config
from pipeline.monitoring.quality_text import paragraph
from pipeline.sanitize import for_terminal
from storage.database.database import Store
from storage.queries import listings

WIDTH = 96
TOP = 5  # flags shown


def page(store: Store, config: Config, policy: str, since: int, until: int) -> Iterator[str]:
    """The lines of the page."""
    yield from _choices(store, policy)
    yield from _outcome(store, config, policy, since, until)
    yield from _quality(store, config, policy, since, until)
    yield from _top(store, config, policy, since, until)
    yield from _drift(store, policy, since, until)
    yield from _next()


def _heading(text: str) -> list[str]:
    return ["", text, "─" * len(text)]


def _choices(store: Store, policy: str) -> Iterator[str]:
    yield from _heading("How fraud was looked for")
    rows = listings.choices(store, policy, limit=1000)
    if not rows:
        yield "  no training has chosen yet"
        return
    before = ""
    for row in reversed(rows):
        mark = "→" if row["strategy"] != before else " "
        before = row["strategy"]
        frauds = f"{row['effective_positives']:,.0f} effective frauds"
        yield f"  {row['training_date'][:10]} {mark} {row['strategy']:<15} {frauds:>22} among {row['mature']:,} mature"
    yield ""
    yield from textwrap.wrap(
        f"Now: {rows[0]['sentence']} What would change it: {rows[0]['what_would_change']}",
        WIDTH,
        initial_indent="  ",
        subsequent_indent="  ",
    )


def _outcome(store: Store, config: Config, policy: str, since: int, until: int) -> Iterator[str]:
    yield from _heading("What came of it")
    found = listings.outcome(store, policy, since, until)
    money = config.schema_.base_currency
    known = found["caught"] + found["missed"]
    yield f"  {found['scored']:,} payments scored, {found['flagged']:,} flagged for review"
    if known:
        yield (
            f"  caught {found['caught']:,} of {known:,} frauds known by now ({found['caught'] / known:.0%}), worth "
            f"{found['caught_money']:,.0f} {money}; missed {found['missed']:,}, worth {found['missed_money']:,.0f} {money}"
        )
    channels = _channels(store, policy, since, until)
    yield "  " + "; ".join(
        f"{channel}: {total:,} flags, {fraud:,} of them known fraud ({fraud / total:.0%})"
        for channel, (total, fraud) in channels.items()
    )
    total, fraud = channels.get(NOVELTY, (0, 0))
    if total and not fraud:
        yield f"  the outlier detector's own share, {NOVELTY}, found no fraud that is known by now: it watches for what nobody labels yet"


def _quality(store: Store, config: Config, policy: str, since: int, until: int) -> Iterator[str]:
    of_all = listings.quality(store, policy, listings.Measures(since, until))
    if not of_all:
        return
    yield from _heading("How good that was")
    of_channels = listings.quality(store, policy, listings.Measures(since, until, "realised", "channel"))
    for line in paragraph(of_all, of_channels, config.schema_.base_currency):
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
    yield from _heading("The most suspicious payments, and why")
    for row in listings.top_flags(store, policy, since, until, TOP):
        answer = {None: "no label"}.get(row["is_fraud"], "fraud" if row["is_fraud"] else "genuine")
        yield (
            f"  {for_terminal(row['transaction_id'])}  {row['event_time'][:16]}  {row['amount_base']:>10,.2f} "
            f"{config.schema_.base_currency}  score {row['score']:.4f}  {row['channel']}  {answer}"
        )
        for reason in row["reasons"][:3]:
            yield f"      {for_terminal(reason['text'])}"


def _drift(store: Store, policy: str, since: int, until: int) -> Iterator[str]:
    yield from _heading("Drift against the training sample")
    alarms = listings.drift_alarms(store, policy, since, until)
    if not alarms:
        yield "  no feature and no score moved beyond its threshold"
    for row in alarms[:TOP]:
        yield (
            f"  {row['feature']}: {row['metric']} over its threshold in {row['windows']:,} windows, "
            f"{row['highest']:.2f} at most"
        )


def _next() -> Iterator[str]:
    yield from _heading("Next")
    yield "  fraudwatch flags --status open --limit 10     what waits for a reviewer"
    yield "  fraudwatch verdict TRANSACTION_ID fraud       answer one; it becomes a label"
    yield "  fraudwatch choices                            every choice, with its rule and sentence"

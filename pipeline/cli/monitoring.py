"""Commands that show how well the monitor works: drift, detection quality, and the doctor."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import (
    LIVE,
    Command,
    Door,
    Instant,
    in_zone,
    now,
    output_options,
    policy_option,
)

if TYPE_CHECKING:
    from pipeline.config.config import Config
    from storage.database.database import Store


BRIEF = [
    "window_start", "feature", "metric", "value", "threshold", "effect", "alarm", "n_current", "why",
]  # fmt: skip
FULL = [
    *BRIEF[:1],
    "window_end",
    *BRIEF[1:-1],
    "n_reference",
    "pooled",
    "lower",
    "upper",
    "p_value",
    "detail",
    "why",
]
WINDOW_ROWS = 5_000  # more than any window has


@click.command(
    cls=Command,
    epilog="""
    fraudwatch drift
    fraudwatch drift --alarms --since 2026-03-01
    fraudwatch drift --feature amount --limit 60 --format csv --output amount.csv
    """,
)
@click.option("--alarms", is_flag=True, help="Alarms only.")
@click.option("--since", type=Instant(), help="Windows that begin here or later.")
@click.option(
    "--feature", help="Of this feature only: a column, score, reasons, flags:CHANNEL, volume, labels …"
)
@click.option(
    "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="At most so many rows."
)
@output_options
@click.pass_obj
def drift(
    door: Door, alarms: bool, since: Any, feature: str | None, limit: int, form: str, output: Path | None
) -> None:
    """Tell how far data, scores and labels have moved from the model's reference, newest window first.

    Begins with the newest window in words: what alarms, from which value on, and what to do. Then its
    measurements: alarms, what may alarm, and what is only measured, the largest effects first.
    """
    from pipeline.cli import output as console
    from pipeline.monitoring import drift_text
    from storage.queries import listings

    config = door.config()
    with door.store(config) as store:
        start = in_zone(since, config.schedule.timezone) if since else None
        rows = listings.drift(store, LIVE, limit, alarms=alarms, since=start, feature=feature)
        if form == "table" and output is None:
            for line in drift_text.sentences(listings.drift(store, LIVE, WINDOW_ROWS, since=start)):
                click.echo(line)
        columns = BRIEF if form == "table" else FULL
        console.show(rows, columns, form, output, _empty(alarms, store))


def _empty(alarms: bool, store: Any) -> str:
    from storage.queries import listings

    if alarms and listings.drift(store, LIVE, 1):
        return "no alarm"
    return "no window has been scored yet: fraudwatch run, or fraudwatch backfill"


COLUMNS = [
    "window_start", "window_end", "model_id", "channel", "metric", "kind", "value", "lower", "upper", "n", "alarm_below",
    "alarm_above", "alarm", "said", "as_of", "run_id",
]  # fmt: skip
NOTHING = (
    "no measure matches: fraudwatch run and fraudwatch backfill estimate a [quality] window once it has ended, and measure it "
    "once its labels are mature"
)


@click.command(
    cls=Command,
    epilog="""
    fraudwatch quality
    fraudwatch quality --from 2026-02-01 --to 2026-04-01 --by channel
    fraudwatch quality --metric precision --metric recall --kind realised --format csv --output quality.csv
    fraudwatch quality --refresh --alarms
    """,
)
@click.option("--from", "start", type=Instant(), help="Windows that end after this.")
@click.option("--to", "end", type=Instant(), help="Windows that begin before this.")
@click.option("--policy", default=LIVE, show_default=True, help="Whose scores.")
@click.option(
    "--by",
    type=click.Choice(["all", "channel", "model"]),
    default="all",
    show_default=True,
    help="Together, or apart.",
)
@click.option(
    "--kind",
    type=click.Choice(["estimated", "realised"]),
    help="Only what was expected, or only what turned out.",
)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    help="Only this measure; repeat for more. A table shows the main ones.",
)
@click.option("--alarms", is_flag=True, help="Only measures whose truth parted from the estimate.")
@click.option("--refresh", is_flag=True, help="Before that, measure what has matured by now.")
@output_options
@click.pass_obj
def quality(
    door: Door,
    start: Any,
    end: Any,
    policy: str,
    by: str,
    kind: str | None,
    metrics: tuple[str, ...],
    alarms: bool,
    refresh: bool,
    form: str,
    output: Path | None,
) -> None:
    """List precision, recall, cost and more by window, estimated and as it turned out, newest first.

    A window is estimated when it ends and measured once labels.maturity has passed; docs/quality.md names every measure.
    """
    from pipeline.cli import output as console
    from pipeline.monitoring.quality_text import MAIN, side_by_side
    from storage.queries import listings

    config = door.config()
    zone = config.schedule.timezone
    with door.store(config) as store:
        listings.insist_on_measures(store, policy, metrics)
        if refresh:
            _refresh(store, config, policy, door.actor)
        wanted = listings.Measures(
            since=in_zone(start, zone) if start else None,
            until=in_zone(end, zone) if end else None,
            kind=kind,
            by=by,
            metrics=metrics or (MAIN[by] if form == "table" and not alarms else ()),
            alarms=alarms,
        )
        rows = listings.quality(store, policy, wanted)
    if form == "table":
        shown = side_by_side(rows, by, config.schema_.base_currency)
        columns = ["from", "to", *([by] if by != "all" else []), "metric", "estimated", "turned out", "said"]
        console.show(shown, columns, form, output, "no measure alarms" if alarms else NOTHING)
    else:
        console.show(rows, COLUMNS, form, output, NOTHING)


def _refresh(store: "Store", config: "Config", policy: str, actor: str) -> None:
    """Measure with what is known by now, or was when the newest transaction matured if that is longer ago."""
    from pipeline.monitoring.quality import refresh
    from storage.ingest import history

    span = history.span(store)
    if span is None:
        return
    matured = span[1] + config.labels.maturity + config.quality.window
    done = refresh(store, config, policy, min(now(), matured), actor)
    click.echo(f"{done.realised:,} windows measured, {len(done.alarms):,} alarms", err=True)


@click.command(cls=Command, epilog="fraudwatch doctor\nfraudwatch doctor --policy cautious")
@policy_option
@click.pass_obj
def doctor(door: Door, policy: str) -> None:
    """Check config, database and clock, and say why nothing was flagged.

    Ends with 1 when something is wrong.
    """
    from pipeline.services.doctor import examine

    config = door.config()
    with door.store(config) as store:
        findings = examine(store, config.of_policy(policy), policy, now())
    for finding in findings:
        click.echo(finding.line())
    if any(finding.wrong for finding in findings):
        raise SystemExit(1)

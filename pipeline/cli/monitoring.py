"""Commands about monitoring: drift, detection quality, and the doctor's checks."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import (
    LIVE,
    CliContext,
    Command,
    InstantParam,
    now,
    output_options,
    policy_option,
    to_instant,
)

if TYPE_CHECKING:
    from pipeline.config.config import Config
    from storage.database.database import Store


DRIFT_COLUMNS = [
    "window_start", "feature", "metric", "value", "threshold", "effect", "alarm", "n_current", "suppressed_because",
]  # fmt: skip
DRIFT_COLUMNS_ALL = [
    *DRIFT_COLUMNS[:1],
    "window_end",
    *DRIFT_COLUMNS[1:-1],
    "n_reference",
    "pooled",
    "lower",
    "upper",
    "p_value",
    "detail",
    "suppressed_because",
]
WINDOW_ROWS_MAX = 5_000  # more than one window ever has


@click.command(
    cls=Command,
    epilog="""
    fraudwatch drift
    fraudwatch drift --alarms --since 2026-03-01
    fraudwatch drift --feature amount --limit 60 --format csv --output amount.csv
    """,
)
@click.option("--alarms", is_flag=True, help="Only alarms.")
@click.option("--since", type=InstantParam(), help="Windows that start at this time or later.")
@click.option(
    "--feature", help="Only this feature: a column, score, reasons, flags:CHANNEL, volume, labels …"
)
@click.option(
    "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Maximum number of rows."
)
@output_options
@click.pass_obj
def drift(
    context: CliContext,
    alarms: bool,
    since: Any,
    feature: str | None,
    limit: int,
    output_format: str,
    output: Path | None,
) -> None:
    """Show how far data, scores and labels have drifted from the model's reference, newest window first.

    The newest window is explained first: its alarms, their thresholds and what to do. A table of all metrics
    follows: alarms, then metrics with a threshold, then the others, the largest effects first.
    """
    from pipeline.cli.output import write_rows
    from pipeline.monitoring import drift_text
    from storage.queries.monitoring import DriftFilter, drift_page

    config = context.load_config()
    with context.open_store(config) as store:
        start = to_instant(since, config.schedule.timezone) if since else None
        rows = drift_page(store, LIVE, DriftFilter(start, feature, alarms), limit).rows
        if output_format == "table" and output is None:
            newest = drift_page(store, LIVE, DriftFilter(start), WINDOW_ROWS_MAX).rows
            for line in drift_text.sentences(newest):
                click.echo(line)
        columns = DRIFT_COLUMNS if output_format == "table" else DRIFT_COLUMNS_ALL
        write_rows(rows, columns, output_format, output, _no_drift_message(alarms, store))


def _no_drift_message(alarms: bool, store: Any) -> str:
    from storage.queries.monitoring import DriftFilter, drift_page

    if alarms and drift_page(store, LIVE, DriftFilter(), 1).rows:
        return "no alarms"
    return "no window has been scored yet: fraudwatch run, or fraudwatch backfill"


QUALITY_COLUMNS = [
    "window_start", "window_end", "model_id", "channel", "metric", "kind", "value", "lower", "upper", "n", "alarm_below",
    "alarm_above", "alarm", "message", "as_of", "run_id",
]  # fmt: skip
NO_METRICS = (
    "no metric matches: fraudwatch run and fraudwatch backfill estimate a [quality] window when it ends, and measure it "
    "when its labels are mature"
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
@click.option("--from", "start", type=InstantParam(), help="Windows that end after this time.")
@click.option("--to", "end", type=InstantParam(), help="Windows that start before this time.")
@click.option("--policy", default=LIVE, show_default=True, help="The policy whose scores are measured.")
@click.option(
    "--by",
    type=click.Choice(["all", "channel", "model"]),
    default="all",
    show_default=True,
    help="All together, by channel or by model.",
)
@click.option(
    "--kind",
    type=click.Choice(["estimated", "realised"]),
    help="Only estimated or only realised values.",
)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    help="Only this metric; may be repeated (default of a table: the main metrics).",
)
@click.option(
    "--alarms", is_flag=True, help="Only metrics whose realised value is outside the estimated range."
)
@click.option("--refresh", is_flag=True, help="First measure the windows whose labels have matured.")
@output_options
@click.pass_obj
def quality(
    context: CliContext,
    start: Any,
    end: Any,
    policy: str,
    by: str,
    kind: str | None,
    metrics: tuple[str, ...],
    alarms: bool,
    refresh: bool,
    output_format: str,
    output: Path | None,
) -> None:
    """List precision, recall, cost and more by window, estimated and realised, newest first.

    A window is estimated when it ends and measured once labels.maturity has passed; docs/quality.md lists all metrics.
    """
    from pipeline.cli.output import write_rows
    from pipeline.monitoring.quality_text import MAIN, side_by_side
    from storage.queries.monitoring import QualityFilter, quality_page, validate_metrics

    config = context.load_config()
    zone = config.schedule.timezone
    with context.open_store(config) as store:
        validate_metrics(store, policy, metrics)
        if refresh:
            _refresh(store, config, policy, context.actor)
        filters = QualityFilter(
            since=to_instant(start, zone) if start else None,
            until=to_instant(end, zone) if end else None,
            kind=kind,
            by=by,
            metrics=metrics or (MAIN[by] if output_format == "table" and not alarms else ()),
            alarms=alarms,
        )
        rows = quality_page(store, policy, filters).rows
    if output_format == "table":
        table_rows = side_by_side(rows, by, config.schema_.base_currency)
        columns = ["from", "to", *([by] if by != "all" else []), "metric", "estimated", "realised", "message"]
        write_rows(table_rows, columns, output_format, output, "no alarms" if alarms else NO_METRICS)
    else:
        write_rows(rows, QUALITY_COLUMNS, output_format, output, NO_METRICS)


def _refresh(store: "Store", config: "Config", policy: str, actor: str) -> None:
    """Measure quality as of now, or as of when the newest transaction matured if that is earlier."""
    from pipeline.monitoring.quality import refresh
    from storage.ingest import history

    span = history.span(store)
    if span is None:
        return
    matured = span[1] + config.labels.maturity + config.quality.window
    measured = refresh(store, config, policy, min(now(), matured), actor)
    click.echo(f"{measured.realised:,} windows measured, {len(measured.alarms):,} alarms", err=True)


@click.command(cls=Command, epilog="fraudwatch doctor\nfraudwatch doctor --policy cautious")
@policy_option
@click.pass_obj
def doctor(context: CliContext, policy: str) -> None:
    """Check config, database and clock, and explain why nothing was flagged.

    Exit code 1 if a check fails.
    """
    from pipeline.services.doctor import run_checks

    config = context.load_config()
    with context.open_store(config) as store:
        results = run_checks(store, config.for_policy(policy), policy, now())
    for result in results:
        click.echo(result.line())
    if any(result.failed for result in results):
        raise SystemExit(1)

"""The command `quality`: precision, recall, cost and more by window, estimated and realised."""

from pathlib import Path
from typing import Any

import click

from pipeline.cli.options import CliContext, Command, InstantParam, output_options, policy_option, to_utc

COLUMNS = [
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
    fraudwatch quality --alarms
    """,
)
@click.option("--from", "start", type=InstantParam(), help="Windows that end after this time.")
@click.option("--to", "end", type=InstantParam(), help="Windows that start before this time.")
@policy_option
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
@click.option("--refresh", is_flag=True, hidden=True, help="Say how many windows were measured.")
@output_options
@click.pass_obj
def quality(
    context: CliContext,
    start: Any,
    end: Any,
    policy: str,
    by: Any,
    kind: Any,
    metrics: tuple[str, ...],
    alarms: bool,
    refresh: bool,
    output_format: str,
    output: Path | None,
) -> None:
    """List precision, recall, cost and more by window.

    A window is estimated when it ends and measured once labels.maturity has passed: by fraudwatch run and the daemon at the end of each
    [quality] window, or by this command, which first measures and stores what has matured since. docs/quality.md lists all metrics.
    """
    from pipeline.cli.output import write_rows
    from pipeline.monitoring.quality_text import MAIN, side_by_side
    from pipeline.number_text import counted
    from pipeline.sanitize import for_terminal
    from pipeline.services.monitoring.quality import QualityRequest, list_quality, refresh_quality
    from pipeline.services.pages import every

    with context.session() as session:
        measured = refresh_quality(session, policy)
        if measured.error:
            click.echo(for_terminal(measured.not_measured), err=True)
        elif measured.windows or refresh:
            click.echo(
                f"{counted(measured.windows, 'window')} measured, {counted(len(measured.alarms), 'alarm')}",
                err=True,
            )
        zone = session.config.schedule.timezone
        request = QualityRequest(
            policy,
            since=to_utc(start, zone) if start else None,
            until=to_utc(end, zone) if end else None,
            kind=kind,
            by=by,
            metrics=metrics,
            alarms=alarms,
        )
        listed = every(list_quality, session, request)
        if output_format != "table":
            write_rows(map(vars, listed), COLUMNS, output_format, output, NO_METRICS)
            return
        chosen = listed if metrics or alarms else (each for each in listed if each.metric in MAIN[by])
        rows = side_by_side([vars(each) for each in chosen], by, session.config.schema_.base_currency)
    columns = ["from", "to", *([by] if by != "all" else []), "metric", "estimated", "realised", "message"]
    write_rows(rows, columns, output_format, output, "no alarms" if alarms else NO_METRICS)

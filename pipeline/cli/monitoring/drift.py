"""The command `drift`: what moved, by how much, from when on it is an alarm, and what to do."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import CliContext, Command, InstantParam, output_options, policy_option, to_utc

if TYPE_CHECKING:
    from pipeline.services.session import Session

COLUMNS = [
    "window_start", "feature", "metric", "value", "threshold", "effect", "alarm", "n_current", "suppressed_because",
]  # fmt: skip
ALL_COLUMNS = [
    "window_start", "window_end", "feature", "metric", "value", "threshold", "effect", "alarm", "n_current", "n_reference",
    "pooled", "lower", "upper", "p_value", "detail", "suppressed_because",
]  # fmt: skip


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
@policy_option
@output_options
@click.pass_obj
def drift(
    context: CliContext,
    alarms: bool,
    since: Any,
    feature: str | None,
    limit: int,
    policy: str,
    output_format: str,
    output: Path | None,
) -> None:
    """Show how far data, scores and labels have drifted.

    The newest window is explained first: its alarms, their thresholds and what to do. A table of all metrics
    follows: alarms, then metrics with a threshold, then the others, the largest effects first.
    """
    from pipeline.cli.output import write_rows
    from pipeline.monitoring.drift_text import sentences
    from pipeline.services.monitoring.drift import DriftRequest, list_drift, newest_drift
    from pipeline.services.pages import every

    with context.session() as session:
        start = to_utc(since, session.config.schedule.timezone) if since else None
        request = DriftRequest(policy, start, feature, alarms)
        if output_format == "table" and output is None:
            for line in sentences([vars(metric) for metric in newest_drift(session, policy, start)]):
                click.echo(line)
        metrics = every(list_drift, session, request, limit=limit)
        columns = COLUMNS if output_format == "table" else ALL_COLUMNS
        write_rows(map(vars, metrics), columns, output_format, output, _no_drift_message(session, request))


def _no_drift_message(session: "Session", request: Any) -> str:
    from pipeline.services.monitoring.drift import DriftRequest, list_drift

    if not list_drift(session, DriftRequest(request.policy), limit=1).items:
        return "no window has been scored yet: fraudwatch run, or fraudwatch backfill"
    return "no alarms" if request.alarms else "no metric matches"

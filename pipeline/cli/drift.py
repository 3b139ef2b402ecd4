"""The command that tells how far data have moved."""

from pathlib import Path
from typing import Any

import click

from pipeline.cli.flags import output_options
from pipeline.cli.main import LIVE, Door, Instant, cli, in_zone

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


@cli.command(
    epilog="""
    fraudwatch drift
    fraudwatch drift --alarms --since 2026-03-01
    fraudwatch drift --feature amount --limit 60 --format csv --output amount.csv
    """
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
    from pipeline.monitoring import drift_text as drift_words
    from storage.queries import listings as reports

    config = door.config()
    with door.store(config) as store:
        start = in_zone(since, config.schedule.timezone) if since else None
        rows = reports.drift(store, LIVE, limit, alarms=alarms, since=start, feature=feature)
        if form == "table" and output is None:
            for line in drift_words.sentences(reports.drift(store, LIVE, WINDOW_ROWS, since=start)):
                click.echo(line)
        columns = BRIEF if form == "table" else FULL
        console.show(rows, columns, form, output, _empty(alarms, store))


def _empty(alarms: bool, store: Any) -> str:
    from storage.queries import listings as reports

    if alarms and reports.drift(store, LIVE, 1):
        return "no alarm"
    return "no window has been scored yet: fraudwatch run, or fraudwatch backfill"

"""Commands that write the report or one of its charts, and print the summary."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import LIVE, CliContext, Command, InstantParam, now, to_instant

if TYPE_CHECKING:
    from pipeline.config.config import Config
    from storage.database.database import Store

DEFAULT_WEEKS = 8  # length of a report without --from
MICROSECONDS_A_WEEK = 7 * 86_400 * 1_000_000


@click.command(
    cls=Command,
    epilog="""
    fraudwatch report --from 2026-02-01 --to 2026-04-01 -o report.html
    fraudwatch report --format png --chart cost -o cost.png
    fraudwatch report --format svg --chart drift-detail --show amount -o amount.svg
    fraudwatch report --list
    """,
)
@click.option("--from", "start", type=InstantParam(), help="First day (default: eight weeks before --to).")
@click.option(
    "--to",
    "end",
    type=InstantParam(),
    help="The day after the last one (default: end of the newest window scored).",
)
@click.option("--as-of", type=InstantParam(), help="Use the data known at this time (default: now).")
@click.option("--policy", default=LIVE, show_default=True, help="The policy to report on.")
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["html", "png", "svg"]),
    default="html",
    show_default=True,
    help="A page, or one chart.",
)
@click.option("--chart", metavar="NAME", help="The chart of a png or svg; --list names them.")
@click.option(
    "--show", default="", metavar="OPTION", help="The feature or metric shown, for charts with a selection."
)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="The file to write.")
@click.option("--list", "listed", is_flag=True, help="List the charts and exit.")
@click.pass_obj
def report(
    context: CliContext,
    start: Any,
    end: Any,
    as_of: Any,
    policy: str,
    output_format: str,
    chart: str | None,
    show: str,
    output: Path | None,
    listed: bool,
) -> None:
    """Write a self-contained HTML report on a span of time, or one of its charts.

    Needs the extra: pip install 'fraudwatch[reports]'.
    """
    from pipeline.rendering import charts
    from pipeline.reporting.report import CHARTS, render_chart, render_html

    if listed:
        for name, (_, description) in CHARTS.items():
            click.echo(f"{name:18}{description}")
        return
    target = _check_output(output, output_format, chart, show)
    charts.require_chart_libraries()
    config = context.load_config()
    with context.open_store(config) as store:
        span = (
            *_report_span(store, config, policy, start, end),
            to_instant(as_of, config.schedule.timezone) if as_of else now(),
        )
        if output_format == "html":
            content = render_html(store, config, policy, *span).encode()
        else:
            content = render_chart(
                store, config, policy, *span, name=str(chart), image_format=output_format, option=show
            )
    target.write_bytes(content)
    click.echo(f"written to {target}", err=True)


def _check_output(output: Path | None, output_format: str, chart: str | None, show: str) -> Path:
    """Check the options and return the output file, before any work is done."""
    if (chart is not None) != (output_format != "html"):
        raise click.UsageError(
            "--chart needs --format png or svg, and these formats need --chart; --list names the charts"
        )
    if show and chart is None:
        raise click.UsageError("--show needs --chart; in the HTML report the reader selects")
    if output is None:
        raise click.UsageError(
            f"Missing option -o/--output, for example -o {chart or 'report'}.{output_format}"
        )
    if not output.absolute().parent.is_dir():
        raise click.UsageError(
            f"-o {output}: the folder {output.absolute().parent} does not exist; create it first"
        )
    return output


def _report_span(store: "Store", config: "Config", policy: str, start: Any, end: Any) -> tuple[int, int]:
    from storage.runs import ledger

    zone = config.schedule.timezone
    until = to_instant(end, zone) if end else ledger.newest_done(store, policy, "score")
    if until is None:
        raise click.UsageError(
            f"no window of policy {policy} has been scored yet: give --from and --to, or run fraudwatch run first"
        )
    since = to_instant(start, zone) if start else until - DEFAULT_WEEKS * MICROSECONDS_A_WEEK
    if since >= until:
        raise click.UsageError("--from must be before --to: the span is [from, to)")
    return since, until


@click.command(cls=Command, epilog="fraudwatch summary --from 2026-02-01 --to 2026-04-01")
@click.option("--from", "start", type=InstantParam(), required=True, help="First day.")
@click.option("--to", "end", type=InstantParam(), required=True, help="The day after the last one.")
@click.pass_obj
def summary(context: CliContext, start: Any, end: Any) -> None:
    """Print a one-page summary: strategy choices, flags, and fraud caught and missed."""
    from pipeline.reporting.summary import summary_lines

    config = context.load_config()
    zone = config.schedule.timezone
    with context.open_store(config) as store:
        for line in summary_lines(store, config, LIVE, to_instant(start, zone), to_instant(end, zone)):
            click.echo(line)

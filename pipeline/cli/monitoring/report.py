"""Commands that write the report or one of its charts, and print the summary."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import LIVE, CliContext, Command, InstantParam, to_utc

if TYPE_CHECKING:
    from pipeline.services.monitoring.reports import ReportRequest
    from pipeline.services.session import Session

NEXT_COMMANDS = """
Next commands
─────────────
fraudwatch report -o report.html                 the whole report, with charts
fraudwatch flags list --status open --limit 10   flags that need a review
fraudwatch verdict TRANSACTION_ID fraud          records a verdict: a label
fraudwatch strategy list                         all choices with their rules"""


def span_options(command: Any) -> Any:
    """--from, --to, --as-of and --policy, for what reports on a span."""
    for option in (
        click.option("--policy", default=LIVE, show_default=True, help="The policy to report on."),
        click.option("--as-of", type=InstantParam(), help="Use the data known at this time (default: now)."),
        click.option(
            "--to", "end", type=InstantParam(),
            help="The day after the last one (default: end of the newest window scored).",
        ),
        click.option("--from", "start", type=InstantParam(), help="First day (default: eight weeks before --to)."),
    ):  # fmt: skip
        command = option(command)
    return command


def _request(session: "Session", start: Any, end: Any, as_of: Any, policy: str) -> "ReportRequest":
    from pipeline.services.monitoring.reports import ReportRequest

    zone = session.config.schedule.timezone
    start, end, as_of = (to_utc(value, zone) if value else None for value in (start, end, as_of))
    return ReportRequest(start, end, as_of, policy)


@click.command(
    cls=Command,
    epilog="""
    fraudwatch report --from 2026-02-01 --to 2026-04-01 -o report.html
    fraudwatch report --format png --chart cost -o cost.png
    fraudwatch report --format svg --chart drift-detail --show amount -o amount.svg
    fraudwatch report --list
    """,
)
@span_options
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
    """Write a self-contained HTML report, or one chart.

    Needs the extra: pip install 'fraudwatch[reports]'.
    """
    from pipeline.files import complete_file
    from pipeline.services.monitoring import reports

    if listed:
        for known in reports.list_charts():
            click.echo(f"{known.name:18}{known.description}")
        return
    target = _check_output(output, output_format, chart, show)
    with context.session() as session:
        request = _request(session, start, end, as_of, policy)
        if chart is None:
            content = reports.render_page(session, request, _note)
        else:
            image = reports.ChartRequest(chart, output_format, show, request)  # type: ignore[arg-type]  # html has no chart
            content = reports.render_chart(session, image, _note)
    with complete_file(target) as file:
        file.write_bytes(content)
    click.echo(f"written to {target}", err=True)


def _note(sentence: str) -> None:
    from pipeline.sanitize import for_terminal

    click.echo(for_terminal(sentence), err=True)


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


@click.command(
    cls=Command,
    epilog="""
    fraudwatch summary
    fraudwatch summary --from 2026-02-01 --to 2026-04-01
    """,
)
@span_options
@click.pass_obj
def summary(context: CliContext, start: Any, end: Any, as_of: Any, policy: str) -> None:
    """Print a summary of the report on a span of time."""
    from pipeline.services.monitoring.reports import render_summary

    with context.session() as session:
        request = _request(session, start, end, as_of, policy)
        click.echo(render_summary(session, request, _note).decode())
    click.echo(NEXT_COMMANDS)

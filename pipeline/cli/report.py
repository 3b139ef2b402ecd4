"""The command that makes reports and pictures."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import LIVE, Command, Door, Instant, in_zone, now

if TYPE_CHECKING:
    from pipeline.config.config import Config
    from storage.database.database import Store

WEEKS = 8  # of a report that was not told its span
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
@click.option("--from", "start", type=Instant(), help="First day (default: eight weeks before --to).")
@click.option(
    "--to",
    "end",
    type=Instant(),
    help="The day after the last one (default: end of the newest window scored).",
)
@click.option("--as-of", type=Instant(), help="Use what was known at this time (default: now).")
@click.option("--policy", default=LIVE, show_default=True, help="Whose scores and flags.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["html", "png", "svg"]),
    default="html",
    show_default=True,
    help="A page, or one chart.",
)
@click.option("--chart", metavar="NAME", help="The chart of a png or svg; --list names them.")
@click.option(
    "--show", default="", metavar="PICK", help="What the chart shows, where the page lets its reader choose."
)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="The file to write.")
@click.option("--list", "listed", is_flag=True, help="Name the charts and leave.")
@click.pass_obj
def report(
    door: Door,
    start: Any,
    end: Any,
    as_of: Any,
    policy: str,
    form: str,
    chart: str | None,
    show: str,
    output: Path | None,
    listed: bool,
) -> None:
    """Write one page about a span that opens anywhere without a network, or one of its charts.

    Needs the extra: pip install 'fraudwatch[reports]'.
    """
    from pipeline.rendering import charts
    from pipeline.reporting import report as assemble

    if listed:
        for name, (_, told) in assemble.CHARTS.items():
            click.echo(f"{name:18}{told}")
        return
    target = _target(output, form, chart, show)
    charts.check()
    config = door.config()
    with door.store(config) as store:
        span = (
            *_span(store, config, policy, start, end),
            in_zone(as_of, config.schedule.timezone) if as_of else now(),
        )
        if form == "html":
            content = assemble.html(store, config, policy, *span).encode()
        else:
            content = assemble.picture(store, config, policy, *span, name=str(chart), form=form, show=show)
    target.write_bytes(content)
    click.echo(f"written to {target}", err=True)


def _target(output: Path | None, form: str, chart: str | None, show: str) -> Path:
    """Where to write, before any work is done."""
    if (chart is not None) != (form != "html"):
        raise click.UsageError(
            "--chart goes with --format png or svg, one picture each; --list names the charts"
        )
    if show and chart is None:
        raise click.UsageError("--show goes with --chart: the page itself lets its reader choose")
    if output is None:
        raise click.UsageError(f"where to? Add -o {chart or 'report'}.{form}")
    if not output.absolute().parent.is_dir():
        raise click.UsageError(f"-o {output}: there is no folder {output.absolute().parent}; make it first")
    return output


def _span(store: "Store", config: "Config", policy: str, start: Any, end: Any) -> tuple[int, int]:
    from storage.runs import ledger

    zone = config.schedule.timezone
    until = in_zone(end, zone) if end else ledger.newest_done(store, policy, "score")
    if until is None:
        raise click.UsageError(
            f"no window of policy {policy} has been scored yet, so give --from and --to, or first: fraudwatch run"
        )
    since = in_zone(start, zone) if start else until - WEEKS * MICROSECONDS_A_WEEK
    if since >= until:
        raise click.UsageError("--from must be before --to: the span is [from, to)")
    return since, until


@click.command(cls=Command, epilog="fraudwatch summary --from 2026-02-01 --to 2026-04-01")
@click.option("--from", "start", type=Instant(), required=True, help="First day.")
@click.option("--to", "end", type=Instant(), required=True, help="The day after the last one.")
@click.pass_obj
def summary(door: Door, start: Any, end: Any) -> None:
    """Tell on one page what was chosen, flagged, caught and missed."""
    from pipeline.reporting.summary import page

    config = door.config()
    zone = config.schedule.timezone
    with door.store(config) as store:
        for line in page(store, config, LIVE, in_zone(start, zone), in_zone(end, zone)):
            click.echo(line)

"""Commands about data: the database, transactions and labels that are read in, and simulated ones."""

from pathlib import Path
from typing import Any

import click

from pipeline.cli.options import (
    Command,
    Door,
    Examples,
    Instant,
    in_zone,
    now,
    output_options,
)


@click.command(
    cls=Command,
    epilog="""
    fraudwatch init
    fraudwatch init --from payments.csv > config.toml
    """,
)
@click.option(
    "--from", "sample", type=click.Path(path_type=Path), help="Propose a [schema] from this file instead."
)
@click.pass_obj
def init(door: Door, sample: Path | None) -> None:
    """Create or upgrade the database; safe to repeat.

    With --from, write a proposed config for the columns of a CSV, Parquet or JSON Lines file to standard
    output, with the reason of every guess, and touch no database.
    """
    if sample is not None:
        from pipeline.schema_inference.propose import propose

        click.echo(propose(sample).toml, nl=False)
        return
    from storage.database.setup import upgrade

    config = door.config()
    with door.store(config, verified=False) as store:
        for line in upgrade(store, config.monitor.name, now(), config.labels.precedence):
            click.echo(line)


@click.group(cls=Examples)
def ingest() -> None:
    """Read transactions or labels into the database."""


def ingest_options(command: Any) -> Any:
    """The options that both kinds of ingest share."""
    for option in (
        click.option("--from-sql", "sql", metavar="NAME", help="Read the query of [source.NAME]."),
        click.option(
            "--format", "form", type=click.Choice(["csv", "parquet", "jsonl"]), help="Of the input."
        ),
        click.option(
            "--history/--as-arrived",
            default=None,
            help="Was it known when it happened, or only now? Default: history until a window was scored.",
        ),
        click.option(
            "--known-after", metavar="SPAN", help="Labels became known so long after the event: 7d."
        ),
        click.option("--complete-through", type=Instant(), help="Labels are complete up to this date."),
    ):
        command = option(command)
    return click.argument("paths", nargs=-1)(command)


@ingest.command(
    "transactions",
    epilog="""
    fraudwatch ingest transactions payments.csv more.parquet
    zcat payments.jsonl.gz | fraudwatch ingest transactions - --format jsonl
    fraudwatch ingest transactions --from-sql warehouse
    """,
)
@ingest_options
@click.pass_obj
def ingest_transactions(door: Door, /, **options: Any) -> None:
    """Read transactions from files, standard input (-) or a configured query."""
    _ingest(door, "transactions", **options)


@ingest.command(
    "labels",
    epilog="""
    fraudwatch ingest labels chargebacks.csv
    fraudwatch ingest labels frauds.csv --known-after 7d --complete-through 2026-04-01
    """,
)
@ingest_options
@click.pass_obj
def ingest_labels(door: Door, /, **options: Any) -> None:
    """Read labels: transaction_id, is_fraud, known_at and optionally source."""
    _ingest(door, "labels", **options)


def _ingest(
    door: Door,
    kind: str,
    paths: tuple[str, ...],
    sql: str | None,
    form: str | None,
    history: bool | None,
    known_after: str | None,
    complete_through: Any,
) -> None:
    from pipeline.cli.output import Bar
    from pipeline.durations import parse_duration
    from pipeline.ingest import ingest as ingesting

    config = door.config()
    sources = ingesting.sources(config, kind, paths, sql, form)
    options = ingesting.Options(
        history,
        parse_duration(known_after) if known_after else None,
        in_zone(complete_through, config.schedule.timezone) if complete_through else None,
    )
    work = ingesting.ingest_transactions if kind == "transactions" else ingesting.ingest_labels
    with door.store(config) as store, Bar() as bar:
        for report in work(
            store,
            config,
            sources,
            clock=now,
            options=options,
            progress=bar,
        ):
            bar.stop()
            click.echo("\n".join(report.lines()))


@click.command(
    cls=Command,
    epilog="""
    fraudwatch simulate --days 90 --seed 7 --output demo
    fraudwatch simulate --days 30 --fraud-rate 0.01 --drift --format csv --output data
    """,
)
@click.option("--days", type=click.IntRange(min=2), default=90, show_default=True)
@click.option("--seed", type=int, default=7, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder to write to.")
@click.option("--format", "form", type=click.Choice(["parquet", "csv"]), default="parquet", show_default=True)
@click.option("--per-day", type=click.IntRange(min=10), default=3000, show_default=True)
@click.option("--fraud-rate", type=float, help="Share of transactions that are fraud.")
@click.option("--drift", is_flag=True, help="Let amounts and channels shift in the last third.")
@click.option("--truth", is_flag=True, help="Also write what every transaction really was.")
@click.pass_obj
def simulate(_door: Door, /, days: int, seed: int, output: Path, form: Any, **options: Any) -> None:
    """Make transactions and delayed labels that match the shipped [schema]."""
    from pipeline.simulation.simulate import simulate as make

    given = {name: value for name, value in options.items() if value is not None}
    made = make(days=days, seed=seed, output=output, format=form, **given)
    click.echo(made.sentence())


@click.command(
    cls=Command,
    epilog="""
    fraudwatch feeds
    fraudwatch feeds --poll
    """,
)
@click.option("--poll", is_flag=True, help="Read every feed now, as a tick of the daemon does.")
@output_options
@click.pass_obj
def feeds(door: Door, poll: bool, form: str, output: Path | None) -> None:
    """List how far polled queries were read and which files of watched folders were taken.

    Ends with 1 when --poll could not read a feed.
    """
    from pipeline.cli import output as console
    from pipeline.ingest import feeds as feeding
    from storage.ingest import feed_state

    config = door.config()
    failed = False
    with door.store(config) as store:
        for told in feeding.poll(store, config, now) if poll else []:
            failed |= told.error is not None
            lines = [f"{told.feed}: {told.error}"] if told.report is None else told.report.lines()
            click.echo("\n".join(lines), err=told.report is None)
        columns = ["feed", "read", "at", "batch_id", "status", "error"]
        console.show(
            feed_state.listing(store),
            columns,
            form,
            output,
            "no feed has been read: see [source] and [watch]",
        )
    if failed:
        raise SystemExit(1)

"""Commands about data: create the database, ingest transactions and labels, read feeds, simulate data."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import (
    CliContext,
    Command,
    Group,
    InstantParam,
    SpanParam,
    now,
    output_option,
    output_options,
    to_utc,
)

if TYPE_CHECKING:
    from pipeline.config.config import Config
    from pipeline.ingest.currencies.currency_rates import StaleRate
    from pipeline.ingest.currencies.rate_sources import RatesReport
    from pipeline.ingest.feeds import FeedReport
    from pipeline.ingest.ingest_report import IngestReport, Kind
    from pipeline.services.data.ingest import WaitingRecord

REASONS_MAX = 5  # of rejected rows
HISTORY_TEXTS = {
    "requested": " ({option})",
    "nothing_scored": ", because no window has been scored yet",
    "windows_scored": ", because windows have been scored already",
    "scored_during_load": ", because a window was scored during the load",
    "taken_up": ", because they were not visible before",
}

ID_NOTE = (
    "ids are made from time, amount, currency, kind, original_id and entities: equal rows of one source are different payments, "
    "and equal rows of two sources are the same one"
)
DATED_BACK = (
    "warning: windows were scored before these labels came; --history counts them as known at their known_at all the same, so that "
    "trainings, quality and rescoring see them on dates on which scoring did not (scores and flags stay as they are; without "
    "--history these labels count from now on)"
)


@click.command(
    cls=Command,
    epilog="""
    fraudwatch init
    fraudwatch init --from payments.csv --output config.toml
    fraudwatch init --from payments.csv --labels disputes.csv --output config.toml
    fraudwatch init --sql > tables.sql
    """,
)
@click.option(
    "--from",
    "sample",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Propose a config for this file, or the files of a pattern in quotes, instead.",
)
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="With --from, a file of labels or disputes of these payments.",
)
@output_option
@click.option("--force", is_flag=True, help="With --output, replace a file that exists.")
@click.option("--sql", is_flag=True, help="Print the statements for Postgres, and execute none.")
@click.pass_obj
def init(
    context: CliContext,
    sample: Path | None,
    labels: Path | None,
    output: Path | None,
    force: bool,
    sql: bool,
) -> None:
    """Create or upgrade the database, or propose a configuration.

    It is safe to repeat. With --sql, print what an administrator of Postgres may execute instead. With --from, print a proposed config for a file of any format that ingest reads, with a reason for every
    guess; the database is not touched. With --output the proposal is a file, which is written whole or not at all.
    """
    if sql and sample is not None:
        raise click.UsageError("--sql is for the database, --from for a config: give one of them")
    if sample is not None:
        _propose(context, sample, labels, output, force)
        return
    if labels is not None or output is not None or force:
        raise click.UsageError(
            "--labels, --output and --force go with --from FILE: they are for the proposed config"
        )
    from pipeline.services.data.database import upgrade, upgrade_sql

    with context.session(verified=False) as session:
        if sql:
            click.echo(upgrade_sql(session), nl=False)
            return
        done = upgrade(session)
        if session.config.schema_.hash:
            _warn_without_key(session.config)
    if done.version is not None:
        click.echo(f"{done.database}: schema version {done.version} is in place")
    if done.columns:
        click.echo(f"{done.database}: columns added to transactions: {', '.join(done.columns)}")
    if done.version is None and not done.columns:
        click.echo(f"{done.database}: up to date, nothing to do")


def _warn_without_key(config: "Config") -> None:
    from pipeline.errors import ConfigError

    try:
        config.hash_key()
    except ConfigError as error:
        click.echo(f"warning: nothing can be ingested yet: {error}", err=True)


def _propose(
    context: CliContext, sample: Path, labels: Path | None, output: Path | None, force: bool
) -> None:
    """Print a proposed config, or write it to a file and print what it begins with."""
    from pipeline.config.loader import configured_encoding
    from pipeline.files import complete_file
    from pipeline.schema_inference.propose import propose

    encoding = configured_encoding(context.config_path, os.environ)
    if output is None:
        click.echo(propose(sample, now(), encoding=encoding, label_path=labels).toml, nl=False)
        return
    if output.exists() and not force:
        raise click.UsageError(f"{output} exists: add --force to replace it, or choose another name")
    proposal = propose(sample, now(), output, encoding, labels)
    with complete_file(output) as file:
        file.write_text(proposal.toml, encoding="utf-8")
    click.echo("\n".join(proposal.heading))
    click.echo(f"written to {output}", err=True)


@click.group(cls=Group)
def ingest() -> None:
    """Read transactions, labels or currency rates into the database."""


def _source_options(command: Any) -> Any:
    """What to read: options that all kinds of ingest share."""
    for option in (
        click.option("--from-sql", "sql", metavar="NAME", help="Read the query of [source.NAME]."),
        click.option(
            "--format",
            "file_format",
            type=click.Choice(["csv", "parquet", "jsonl", "excel"]),
            help="Format of the input.",
        ),
    ):
        command = option(command)
    return click.argument("paths", nargs=-1)(command)


def _ingest_options(command: Any) -> Any:
    """Options that transactions and labels share."""
    for option in (
        click.option(
            "--history/--as-arrived",
            default=None,
            help="Rows count as known at their event time, or only from now on (default: history, until a window is scored).",
        ),
        click.option(
            "--known-after",
            type=SpanParam(),
            metavar="SPAN",
            help="Labels became known this long after the event, for example 7d.",
        ),
        click.option("--complete-through", type=InstantParam(), help="Labels are complete up to this date."),
    ):
        command = option(command)
    return _source_options(command)


@ingest.command(
    "transactions",
    epilog="""
    fraudwatch ingest transactions payments.csv more.parquet
    fraudwatch ingest transactions 'exports/*.csv'
    zcat payments.jsonl.gz | fraudwatch ingest transactions - --format jsonl
    fraudwatch ingest transactions --from-sql warehouse
    """,
)
@_ingest_options
@click.pass_obj
def ingest_transactions(context: CliContext, /, **options: Any) -> None:
    """Read transactions from files, standard input or a query.

    Files are CSV, JSON Lines, Parquet or Excel, also packed; a pattern such as 'exports/*.csv' names several. Standard input is -; a
    query is one of [source.NAME].
    """
    _ingest(context, "transactions", **options)


@ingest.command(
    "labels",
    epilog="""
    fraudwatch ingest labels chargebacks.csv
    fraudwatch ingest labels frauds.csv --known-after 7d --complete-through 2026-04-01
    printf 'transaction_id,reason,stage,known_at\nT1,10.4,dispute,2026-03-05T09:00Z\n' | fraudwatch ingest labels -
    """,
)
@_ingest_options
@click.pass_obj
def ingest_labels(context: CliContext, /, **options: Any) -> None:
    """Read labels from files, standard input or a query.

    Their columns are transaction_id, is_fraud, known_at and optionally source. Disputes have a reason (such as 10.4 or 13.1) instead of
    is_fraud, or a stage (inquiry, dispute, won, lost), and optionally an amount: labels.fraud_reasons says which reasons are fraud.
    """
    _ingest(context, "labels", **options)


@ingest.command(
    "rates",
    epilog="""
    fraudwatch ingest rates rates.csv
    fraudwatch ingest rates --from-sql exchange
    """,
)
@_source_options
@click.pass_obj
def ingest_rates(
    context: CliContext, paths: tuple[str, ...], sql: str | None, file_format: str | None
) -> None:
    """Read currency rates from files, standard input or a query.

    Their columns are date, currency and rate: how much of the base currency one unit is worth. Then the transactions that waited for
    a rate are taken up.
    """
    from pipeline.ingest.currencies.rate_sources import RatesReport
    from pipeline.services.data.ingest import RatesRequest, load_rates, waiting_payments

    with context.session() as session:
        for report in load_rates(session, RatesRequest(paths, sql, file_format)):
            lines = [_rates_line(report)] if isinstance(report, RatesReport) else ingest_lines(report)
            click.echo("\n".join(lines))
        _echo_waiting(waiting_payments(session))


def _rates_line(report: "RatesReport") -> str:
    from pipeline.sanitize import for_terminal

    newest = f", newest {report.newest_day}" if report.newest_day else ""
    return (
        f"{for_terminal(report.source)}: {report.added:,} rates added, {report.corrected:,} corrected, "
        f"{report.unchanged:,} unchanged{newest}"
    )


def _echo_waiting(waiting: "tuple[WaitingRecord, ...]") -> None:
    for payments in waiting:
        click.echo(f"waiting: {waiting_text(payments)}")


def waiting_text(waiting: "WaitingRecord") -> str:
    """The payments that wait for a rate as a sentence with its remedy."""
    from pipeline.number_text import counted

    return (
        f"{counted(waiting.payments, 'payment')} in {waiting.currency} {'waits' if waiting.payments == 1 else 'wait'} for a rate since {waiting.since:%Y-%m-%d %H:%M} UTC: add one of "
        f"{waiting.first_day} or earlier to {' or '.join(waiting.places)}, and the next ingest takes them up"
    )


def stale_rate_text(rate: "StaleRate") -> str:
    """The payments that were converted by an old rate as a sentence with its remedy."""
    from pipeline.number_text import counted

    return (
        f"{counted(rate.payments, 'payment')} in {rate.currency} {'uses' if rate.payments == 1 else 'use'} a rate of {rate.day}, {counted(rate.age_days, 'day')} old: "
        f"add newer rates to {' or '.join(rate.places)}"
    )


def _ingest(
    context: CliContext,
    kind: "Kind",
    paths: tuple[str, ...],
    sql: str | None,
    file_format: str | None,
    history: bool | None,
    known_after: Any,
    complete_through: Any,
) -> None:
    from pipeline.cli.output import progress_bar
    from pipeline.services.data.ingest import IngestRequest, ingest, waiting_payments

    with context.session() as session, progress_bar() as bar:
        through = to_utc(complete_through, session.config.schedule.timezone) if complete_through else None
        request = IngestRequest(kind, paths, sql, file_format, history, known_after, through)
        reports = []
        for report in ingest(session, request, bar):
            bar.stop()
            click.echo("\n".join(ingest_lines(report)))
            reports.append(report)
        if kind == "transactions":
            _echo_waiting(waiting_payments(session))
    if any(report.equal_rows is not None for report in reports):
        click.echo(ID_NOTE)
    if any(report.dated_back and report.kind == "labels" for report in reports):
        click.echo(DATED_BACK, err=True)


def ingest_lines(report: "IngestReport") -> list[str]:
    """The report on one source as lines of text."""
    from pipeline.number_text import counted
    from pipeline.sanitize import for_terminal

    source = for_terminal(report.source)  # file names are untrusted text
    if report.same_as is not None:
        return [f"{source}: batch {report.same_as} already holds these {report.kind}, nothing to do"]
    counts = report.counts
    lines = [
        f"{source}: {counts.read:,} {report.kind} read = {counts.accepted:,} accepted + {counts.duplicate:,} duplicate "
        f"+ {counts.revised:,} revised + {counts.rejected:,} rejected (batch {report.batch_id})",
        f"  {_history_text(report)}",
    ]
    if report.without_transaction:
        lines.append(
            f"  {report.without_transaction:,} of them are for ids that no transaction has: they count once it is ingested; "
            "if it has been, compare the ids in both files"
        )
    if report.items:
        lines.append(
            f"  {counted(report.items, 'further item', 'further items')} of orders left out: an order is one transaction"
        )
    if report.equal_rows:
        lines.append(
            f"  {counted(report.equal_rows, 'row equals', 'rows equal')} an earlier row of this source: each counts as a payment of its own"
        )
    if report.unlabelled:
        lines.append(
            f"  {counted(report.unlabelled, 'row says', 'rows say')} neither fraud nor genuine, and {'was' if report.unlabelled == 1 else 'were'} left out"
        )
    if report.events:
        words = ", ".join(f"{for_terminal(word)} {n:,}" for word, n in report.events.items())
        lines.append(f"  events: {words}")
    lines += _dispute_lines(report)
    if report.silent:
        known = (
            f": no fraud of them is known by {report.complete_through:%Y-%m-%d %H:%M} UTC"
            if report.complete_through
            else ""
        )
        lines.append(
            f"  {report.silent:,} say genuine, which is silence{known}; if somebody has established it, set "
            'schema.genuine_means = "genuine" and ingest the file again'
        )
    if report.early_labels:
        lines.append(
            f"  {counted(report.early_labels, *EARLY_LABELS)}; check both times and their zones, and ingest them again"
        )
    lines += [f"  {stale_rate_text(rate)}" for rate in report.stale_rates]
    return [*lines, *_rejected_lines(report)]


EARLY_LABELS = (
    "label that came before these transactions says it was known more than an hour before them: it no longer holds",
    "labels that came before these transactions say they were known more than an hour before them: they no longer hold",
)


def _rejected_lines(report: "IngestReport") -> Iterator[str]:
    """Why rows were rejected; the numbers add up to theirs."""
    from pipeline.number_text import counted

    for currency, n in report.waiting.items():
        yield f"  {n:,} of the rejected only wait for a rate of {currency}"
    for reason, n in list(report.reasons.items())[:REASONS_MAX]:
        yield f"  {n:,} × {_reason_text(reason, report)}"
    if more := list(report.reasons.values())[REASONS_MAX:]:
        yield f"  {sum(more):,} for {counted(len(more), 'other reason')}"
    if report.reasons:
        yield f"  rejected rows are in the table rejected_rows, with batch_id {report.batch_id}"


def _dispute_lines(report: "IngestReport") -> list[str]:
    """What labels say besides fraud and genuine."""
    from pipeline.number_text import counted
    from pipeline.sanitize import for_terminal

    lines = []
    if report.neither:
        lines.append(
            f"  {counted(report.neither, 'row is a dispute', 'rows are disputes')} about something else than fraud: neither fraud nor genuine"
        )
    if report.without_reason:
        lines.append(
            f"  {counted(report.without_reason, 'dispute has', 'disputes have')} no reason, so {'it is' if report.without_reason == 1 else 'they are'} neither fraud nor genuine: ingest a report of disputes with "
            "their reasons as labels, too"
        )
    if report.only_stages:
        lines.append(
            f"  {counted(report.only_stages, 'row says only the stage of a dispute, and changes', 'rows say only the stage of a dispute, and change')} no label"
        )
    if report.unknown_reasons:
        codes = [
            f"{for_terminal(code)} ({n:,})" for code, n in list(report.unknown_reasons.items())[:REASONS_MAX]
        ]
        more = (
            f" and {len(report.unknown_reasons) - REASONS_MAX:,} more"
            if len(report.unknown_reasons) > REASONS_MAX
            else ""
        )
        lines.append(
            f'  [labels] does not know the reasons {", ".join(codes)}{more}: they count as "other"; add those that mean fraud to '
            "labels.fraud_reasons, then ingest the file again"
        )
    return lines


def _reason_text(reason: str, report: "IngestReport") -> str:
    """Why rows were rejected, with the first of them."""
    from pipeline.sanitize import for_terminal

    example = report.examples[reason]
    value = f': "{for_terminal(example.value)}"' if example.value else ""
    return f"{for_terminal(reason)} (row {example.row_number:,}{value})"


def _history_text(report: "IngestReport") -> str:
    option = "--history" if report.history else "--as-arrived"
    mode = (
        "as history: every row counts as known when it happened"
        if report.history
        else "as arrived: every row counts as known from now on"
    )
    return mode + HISTORY_TEXTS[report.history_because].format(option=option)


def _feed_lines(feed: "FeedReport") -> list[str]:
    if feed.report is not None:
        return ingest_lines(feed.report)
    return [f"{feed.feed}: {feed.error}" if feed.rates is None else _rates_line(feed.rates)]


@click.command(
    cls=Command,
    epilog="""
    fraudwatch simulate --days 90 --seed 7 --output demo
    fraudwatch simulate --days 30 --fraud-rate 0.01 --drift --format csv --output data
    """,
)
@click.option("--days", type=click.IntRange(min=2), default=90, show_default=True)
@click.option("--seed", type=int, default=7, show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder to write to.")
@click.option(
    "--format", "file_format", type=click.Choice(["parquet", "csv"]), default="parquet", show_default=True
)
@click.option("--per-day", type=click.IntRange(min=10), default=3000, show_default=True)
@click.option("--fraud-rate", type=float, help="Share of transactions that are fraud.")
@click.option("--drift", is_flag=True, help="Shift amounts and channels in the last third of the days.")
@click.option(
    "--reviewers", is_flag=True, help="A team answers flags, and payments are disputed for many reasons."
)
@click.option("--truth", is_flag=True, help="Also write the true label of every transaction.")
@click.pass_obj
def simulate(
    _context: CliContext, /, days: int, seed: int, output: Path, file_format: Any, **options: Any
) -> None:
    """Generate transactions and delayed labels.

    They match the shipped [schema].
    """
    from pipeline.simulation.simulate import simulate as generate

    settings = {name: value for name, value in options.items() if value is not None}
    simulation = generate(days=days, seed=seed, output=output, format=file_format, **settings)
    click.echo(simulation.sentence())


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
def feeds(context: CliContext, poll: bool, output_format: str, output: Path | None) -> None:
    """List the feeds: how far each was read, and which of them fail.

    Exit code 1 if --poll could not read a feed.
    """
    from pipeline.cli.output import write_rows
    from pipeline.services.data.feeds import list_feeds
    from pipeline.services.data.ingest import poll_feeds
    from pipeline.services.pages import every

    failed = False
    with context.session() as session:
        for feed in poll_feeds(session) if poll else []:
            failed |= feed.error is not None
            click.echo("\n".join(_feed_lines(feed)), err=feed.error is not None)
        columns = ["feed", "read_through", "path", "at", "batch_id", "status", "error"]
        listed = every(list_feeds, session)
        write_rows(
            listed,
            columns,
            output_format,
            output,
            "no feed has been read: see [source] and [watch]",
        )
    if failed:
        raise SystemExit(1)

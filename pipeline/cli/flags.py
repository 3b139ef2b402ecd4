"""The commands that read what is stored, and the verdict a reviewer writes back."""

from pathlib import Path
from typing import Any

import click

from pipeline.cli.main import LIVE, Door, Instant, cli, entity_of, in_zone, now, policy_option

FORMATS = click.Choice(["table", "csv", "json", "parquet"])


def output_options(command: Any) -> Any:
    """--format and --output, the same for everything that lists rows."""
    command = click.option(
        "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file."
    )(command)
    return click.option("--format", "form", type=FORMATS, default="table", show_default=True)(command)


@cli.command(
    epilog="""
    fraudwatch flags --status open --limit 20
    fraudwatch flags --since 2026-03-01 --channel novelty --format csv --output novelty.csv
    fraudwatch flags --entity customer_id=C001234
    """
)
@click.option("--since", type=Instant(), help="Event time from here on.")
@click.option("--until", type=Instant(), help="Event time before this.")
@click.option("--status", type=click.Choice(["open", "fraud", "genuine", "expired"]))
@click.option("--channel", help="outlier, bridge, classification, novelty, audit or rule.")
@click.option("--min-score", type=click.FloatRange(0, 1))
@click.option("--entity", metavar="COLUMN=VALUE", help="Of this customer, card, merchant …")
@click.option("--muted", is_flag=True, help="Those that are muted, too, marked with the mute's number.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many rows.")
@output_options
@click.pass_obj
def flags(
    door: Door,
    since: Any,
    until: Any,
    status: str | None,
    channel: str | None,
    min_score: float | None,
    entity: str | None,
    muted: bool,
    limit: int | None,
    form: str,
    output: Path | None,
) -> None:
    """List flagged transactions with their reasons, newest first.

    Flags that are muted (fraudwatch mute) are left out, unless --muted asks for them.
    """
    from pipeline.cli import output as console
    from storage.queries import listings as reports

    config = door.config()
    zone = config.schedule.timezone
    with door.store(config) as store:
        wanted = reports.Wanted(
            since=in_zone(since, zone) if since else None,
            until=in_zone(until, zone) if until else None,
            status=status,
            channel=channel,
            min_score=min_score,
            entity=None if entity is None else entity_of(entity, config),
            muted=muted,
            limit=limit,
        )
        rows = reports.flags(store, LIVE, wanted)
        if form == "table":
            rows = (row | {"reasons": _first_words(row["reasons"])} for row in rows)
        columns = [*_flag_columns(form, config), *(["muted_by"] if muted else [])]
        console.show(rows, columns, form, output, "no flags match; see fraudwatch doctor")
        left_out = 0 if muted else reports.muted(store, LIVE, wanted)
    if left_out:
        click.echo(f"{left_out:,} muted flags are left out: --muted shows them", err=True)


def _flag_columns(form: str, config: Any) -> list[str]:
    brief = ["transaction_id", "event_time", "amount", "channel", "score", "status", "reasons"]
    if form == "table":
        return brief
    full = ["fraud_probability", "outlier_score", "decision_value", "threshold", "model_id", "run_id"]
    return [*brief[:3], "currency", *config.schema_.entities, *brief[3:], *full, "reviewed_at", "reviewer"]


def _first_words(reasons: list[dict[str, Any]]) -> str:
    return "; ".join(reason["text"] for reason in reasons[:2])


@cli.command(
    epilog="""
    fraudwatch verdict T000123 fraud
    fraudwatch verdict T000124 genuine --note "customer confirmed by phone"
    """
)
@click.argument("transaction_id")
@click.argument("answer", type=click.Choice(["fraud", "genuine"]))
@click.option("--note", default="", help="Kept in the audit trail.")
@click.pass_obj
def verdict(door: Door, transaction_id: str, answer: str, note: str) -> None:
    """Say what a flagged transaction turned out to be: closes the flag and becomes a label.

    Changing your mind is another verdict; both are kept, the newest counts.
    """
    from storage.review import verdicts as reviews

    config = door.config()
    with door.store(config) as store:
        outcome = reviews.verdict(store, LIVE, transaction_id, answer == "fraud", note, door.actor, now())
    click.echo(outcome.sentence())


def listing(name: str, columns: list[str], empty: str, help_: str) -> None:
    """Add a command that lists what `storage.reports` has under that name, newest first."""

    @cli.command(name, help=help_, epilog=f"fraudwatch {name}\nfraudwatch {name} --format json --limit 5")
    @click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True)
    @output_options
    @click.pass_obj
    def command(door: Door, limit: int, form: str, output: Path | None) -> None:
        from pipeline.cli import output as console
        from storage.queries import listings as reports

        config = door.config()
        with door.store(config) as store:
            rows = getattr(reports, name)(store, LIVE, limit=limit)
            console.show(rows, columns, form, output, empty)


listing(
    "runs",
    ["run_id", "kind", "started_at", "finished_at", "status", "counts", "error"],
    "nothing has run yet: fraudwatch run, or fraudwatch backfill",
    "List runs, newest first.",
)
listing(
    "gaps",
    ["kind", "window_start", "window_end", "status", "attempts", "not_before", "error", "remedy"],
    "no gaps: everything that was due is done",
    "List what was due and is not done, oldest first, with the remedy.",
)


@cli.command(
    epilog="""
    fraudwatch diff live cheaper
    fraudwatch diff live cheaper --from 2026-02-01 --to 2026-04-01 --format csv
    """
)
@click.argument("policy_a")
@click.argument("policy_b")
@click.option("--from", "start", type=Instant(), help="Event time from here on.")
@click.option("--to", "end", type=Instant(), help="Event time before this.")
@click.option(
    "--limit", type=click.IntRange(min=0), default=20, show_default=True, help="Transactions to list."
)
@output_options
@click.pass_obj
def diff(
    door: Door, policy_a: str, policy_b: str, start: Any, end: Any, limit: int, form: str, output: Path | None
) -> None:
    """Compare what two policies flag of the transactions that both have scored, with money.

    Rows that a model was trained on are left out; their number is said.
    """
    from pipeline.cli import output as console
    from storage.queries import policy_diff as comparing

    config = door.config()
    zone = config.schedule.timezone
    span = in_zone(start, zone) if start else None, in_zone(end, zone) if end else None
    with door.store(config) as store:
        for line in comparing.compare(store, policy_a, policy_b, *span).lines(config.schema_.base_currency):
            click.echo(line, err=form != "table")
        if limit:
            columns = [
                "transaction_id",
                "event_time",
                "amount",
                "flagged_by",
                "score_a",
                "score_b",
                "is_fraud",
            ]
            rows = comparing.differences(store, policy_a, policy_b, *span, limit)
            console.show(rows, columns, form, output, "both flag the same transactions")


@cli.command(
    epilog="""
    fraudwatch feeds
    fraudwatch feeds --poll
    """
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
    from storage.ingest import feed_state as stored

    config = door.config()
    failed = False
    with door.store(config) as store:
        for told in feeding.poll(store, config, now) if poll else []:
            failed |= told.error is not None
            lines = [f"{told.feed}: {told.error}"] if told.report is None else told.report.lines()
            click.echo("\n".join(lines), err=told.report is None)
        columns = ["feed", "read", "at", "batch_id", "status", "error"]
        console.show(
            stored.listing(store), columns, form, output, "no feed has been read: see [source] and [watch]"
        )
    if failed:
        raise SystemExit(1)


@cli.command(epilog="fraudwatch doctor\nfraudwatch doctor --policy cautious")
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


@cli.command(epilog="fraudwatch summary --from 2026-02-01 --to 2026-04-01")
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

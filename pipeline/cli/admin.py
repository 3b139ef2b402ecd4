"""Commands for administration: undo a batch or run, prune old rows, check the audit trail, export tables."""

from collections.abc import Mapping
from pathlib import Path

import click

from pipeline.cli.options import CliContext, Command, Group


@click.group(cls=Group)
def undo() -> None:
    """Withdraw what a bad file or run brought."""


def undo_command(name: str, help_text: str, example: str) -> None:
    """Add `undo batch` or `undo run`."""

    @undo.command(name, help=help_text, epilog=example)
    @click.argument("number", type=click.IntRange(min=1))
    @click.option("--reason", required=True, help="Stored in withdrawals and in the audit trail.")
    @click.pass_obj
    def command(context: CliContext, number: int, reason: str) -> None:
        from pipeline.services.admin import UndoRequest, undo_batch, undo_run

        undo_rows = undo_batch if name == "batch" else undo_run
        with context.session() as session:
            withdrawal = undo_rows(session, UndoRequest(number, reason))
        moved = _counts_text(withdrawal.counts) or "it had no rows"
        click.echo(f"{withdrawal.subject} withdrawn: {moved}; kept and audited")


def _counts_text(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n:,} {table.replace('_', ' ')}" for table, n in counts.items() if n)


undo_command(
    "batch",
    "Withdraw a batch of transactions or labels.\n\n"
    "Scores and flags of its transactions go, too. The rows stay in withdrawn_rows and their ids are free again, so a corrected file can be ingested. "
    "An interrupted undo continues when it is repeated.",
    'fraudwatch undo batch 12 --reason "amounts in cents"',
)
undo_command(
    "run",
    "Withdraw the scores, flags, choices and promotions of a run.\n\n"
    "Its transactions are queued and its steps are due again: the next tick or fraudwatch run repeats them, or, for "
    "a span before the schedule started, fraudwatch backfill.",
    'fraudwatch undo run 7 --reason "labels were wrong"',
)


@click.command(
    cls=Command,
    epilog="""
    fraudwatch prune --dry-run
    fraudwatch prune
    """,
)
@click.option("--dry-run", is_flag=True, help="Only show what would be deleted.")
@click.pass_obj
def prune(context: CliContext, dry_run: bool) -> None:
    """Delete rows that are older than [retention] allows.

    Open flags older than alerts.expire expire first. The daemon does both after every training date.
    """
    from pipeline.number_text import counted
    from pipeline.services.admin import prune as prune_rows

    with context.session() as session:
        pruning = prune_rows(session, dry_run=dry_run)
    deleted = {table: n for table, n in pruning.counts.items() if table != "expired_flags"}
    verb = "would be deleted" if dry_run else "deleted"
    click.echo(f"{verb}: {_counts_text(deleted) or 'nothing is older than its retention'}")
    if expired := pruning.counts.get("expired_flags"):
        click.echo(
            f"{counted(expired, 'open flag')} {'would expire' if dry_run else 'expired'}: alerts.expire"
        )


@click.command(
    cls=Command,
    epilog="""
    fraudwatch export flagged_transactions --output flags.parquet
    fraudwatch export scores --output scores.csv
    """,
)
@click.argument("table")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="A file that ends in .parquet or .csv.",
)
@click.pass_obj
def export(context: CliContext, table: str, output: Path) -> None:
    """Export a table or view to a Parquet or CSV file.

    The file appears only when it is complete.
    """
    from pipeline.cli.output import progress_bar
    from pipeline.number_text import counted
    from pipeline.services.data.export import ExportRequest, export_table

    with context.session() as session, progress_bar() as bar:
        bar.start(table, None, "rows")
        exported = export_table(session, ExportRequest(table, output), bar)
    click.echo(f"{exported.table}: {counted(exported.rows, 'row')} written to {exported.path}")


@click.group(cls=Group)
def audit() -> None:
    """Check the audit trail."""


FAULTS = {
    "changed_or_missing_before": "row {} does not follow from the row before it: it was changed, or one before it is gone",
    "content_changed": "the before or after of row {} was changed",
    "not_chained": "row {} has no hash, although a row before it has one",
    "redacted_without_reason": "the before and after of row {} were removed, and no later row says why",
}


@audit.command(
    "verify",
    epilog="""
    fraudwatch audit verify
    fraudwatch audit verify --expect 3f9a8c1b5d7e...
    """,
)
@click.option(
    "--expect", metavar="HASH", help="The newest hash of an earlier check, which must still be there."
)
@click.pass_obj
def verify_audit(context: CliContext, expect: str | None) -> None:
    """Check that no row was changed, removed or put in later.

    Exit code 1 if one was. Keep the newest hash in another place: it proves later that no row up to it was cut off.
    """
    from pipeline.number_text import counted
    from pipeline.services.admin import verify_audit as verify

    with context.session() as session:
        check = verify(session, expect)
    older = f", {check.older:,} from before there were hashes" if check.older else ""
    redacted = f", {check.redacted:,} of them redacted" if check.redacted else ""
    click.echo(f"{counted(check.rows, 'row follows', 'rows follow')} from one another{redacted}{older}")
    if check.newest_hash is not None:
        click.echo(f"newest hash: {check.newest_hash}")
    if check.fault is not None:
        click.echo(f"the chain breaks: {FAULTS[check.fault].format(check.first_broken)}", err=True)
    if check.has_expected is False:
        click.echo(
            "no row has the expected hash: rows were cut off, or another trail was put in place", err=True
        )
    if not check.is_guarded:
        click.echo(
            "the triggers that keep rows from being changed are gone, so rows may have been changed and chained anew: "
            "find out who dropped them, then fraudwatch init puts them back",
            err=True,
        )
    if not check.is_whole:
        raise SystemExit(1)

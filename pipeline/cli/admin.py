"""Commands for administration: undo a batch or run, erase an entity, prune old rows, export tables."""

from pathlib import Path

import click

from pipeline.cli.options import CliContext, Command, Group, now, parse_entity


@click.group(cls=Group)
def undo() -> None:
    """Undo a batch or a run."""


def undo_command(name: str, help_text: str, example: str) -> None:
    """Add `undo batch` or `undo run`."""

    @undo.command(name, help=help_text, epilog=example)
    @click.argument("number", type=click.IntRange(min=1))
    @click.option("--reason", required=True, help="Stored in withdrawals and in the audit trail.")
    @click.pass_obj
    def command(context: CliContext, number: int, reason: str) -> None:
        from storage.admin.undo import undo_batch, undo_run

        undo_rows = undo_batch if name == "batch" else undo_run
        with context.open_store(context.load_config()) as store:
            click.echo(undo_rows(store, number, reason, context.actor, now()).sentence())


undo_command(
    "batch",
    "Withdraw a batch: its transactions with their scores and flags, or its labels.\n\n"
    "The rows stay in withdrawn_rows and their ids are free again, so a corrected file can be ingested. "
    "An interrupted undo continues when it is repeated.",
    'fraudwatch undo batch 12 --reason "amounts in cents"',
)
undo_command(
    "run",
    "Withdraw a run: its scores, flags, drift, choices and promotions.\n\n"
    "Its transactions are queued and its steps are due again: the next tick or fraudwatch run repeats them, or, for "
    "a span before the schedule started, fraudwatch backfill.",
    'fraudwatch undo run 7 --reason "labels were wrong"',
)


@click.command(
    cls=Command,
    epilog="""
    fraudwatch erase --entity customer_id=C001234
    fraudwatch erase --entity customer_id=C001234 --yes
    """,
)
@click.option("--entity", required=True, metavar="COLUMN=VALUE", help="The entity to erase.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.pass_obj
def erase(context: CliContext, entity: str, yes: bool) -> None:
    """Replace an entity's value by a random pseudonym in every table.

    Counts and histories stay the same; this cannot be undone. Erase the value at the source and in watched folders
    first, or it will be ingested again.
    """
    from pipeline.ingest.row_checks import hasher_of
    from storage.admin.erase import erase as erase_entity

    config = context.load_config()
    column, value = parse_entity(entity, config)
    if not yes:
        click.confirm(f"Erase this {column} permanently?", abort=True)
    hasher = hasher_of(config)
    if hasher is not None and column in config.schema_.hash:
        value = hasher.hash(value)
    with context.open_store(config) as store:
        click.echo(erase_entity(store, column, value, context.actor, now()).sentence())


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
    """Delete rows that are older than [retention] allows; the daemon does so after every training date."""
    from pipeline.config.retention import cutoffs
    from storage.admin.prune import prune as prune_rows

    config = context.load_config()
    with context.open_store(config) as store:
        deleted = prune_rows(store, cutoffs(config, now()), dry=dry_run)
    counts = ", ".join(f"{n:,} {table.replace('_', ' ')}" for table, n in deleted.items())
    verb = "would be deleted" if dry_run else "deleted"
    click.echo(f"{verb}: {counts or 'nothing is older than its retention'}")


@click.command(
    cls=Command,
    epilog="""
    fraudwatch export flagged_transactions --output flags.parquet
    fraudwatch export scores --output scores.csv
    """,
)
@click.argument("table")
@click.option(
    "--output",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="A file that ends in .parquet or .csv.",
)
@click.pass_obj
def export(context: CliContext, table: str, output: Path) -> None:
    """Export any table or view to Parquet or CSV; the file appears only when it is complete."""
    from pipeline.cli.output import ProgressBar
    from pipeline.services.export import ExportRequest, export_table

    with context.session() as session, ProgressBar() as bar:
        bar.start(table, None, "rows")
        exported = export_table(session, ExportRequest(table, output), bar)
    click.echo(f"{exported.table}: {exported.rows:,} rows written to {exported.path}")

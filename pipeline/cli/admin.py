"""The commands that take back, erase, prune and export what is stored."""

from pathlib import Path

import click

from pipeline.cli.options import Command, Door, Examples, entity_of, now


@click.group(cls=Examples)
def undo() -> None:
    """Take back what a bad file or run brought."""


def undo_command(name: str, what: str, example: str) -> None:
    """Add `undo batch` or `undo run`."""

    @undo.command(name, help=what, epilog=example)
    @click.argument("number", type=click.IntRange(min=1))
    @click.option("--reason", required=True, help="Kept in withdrawals and in the audit trail.")
    @click.pass_obj
    def command(door: Door, number: int, reason: str) -> None:
        from storage.admin import undo as withdrawing

        work = withdrawing.undo_batch if name == "batch" else withdrawing.undo_run
        with door.store(door.config()) as store:
            click.echo(work(store, number, reason, door.actor, now()).sentence())


undo_command(
    "batch",
    "Withdraw a batch: its transactions with their scores and flags, or its labels.\n\n"
    "The rows stay in withdrawn_rows and their ids are free again, so a corrected file can be ingested. "
    "An interrupted undo goes on when it is repeated.",
    'fraudwatch undo batch 12 --reason "amounts in cents"',
)
undo_command(
    "run",
    "Withdraw a run: its scores, flags, drift, choices and promotions.\n\n"
    "What it scored is queued and what it did is due again: the next tick, fraudwatch run or, for a span before "
    "the work began, fraudwatch backfill does it anew.",
    'fraudwatch undo run 7 --reason "labels were wrong"',
)


@click.command(
    cls=Command,
    epilog="""
    fraudwatch erase --entity customer_id=C001234
    fraudwatch erase --entity customer_id=C001234 --yes
    """,
)
@click.option("--entity", required=True, metavar="COLUMN=VALUE", help="Whom to make unrecognisable.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def erase(door: Door, entity: str, yes: bool) -> None:
    """Put a random pseudonym in place of a person's value in every table.

    Counts and histories stay what they were; there is no way back. Erase at the source and in watched folders
    first, or their rows come again.
    """
    from pipeline.ingest.row_checks import hasher_of
    from storage.admin import erase as erasing

    config = door.config()
    column, value = entity_of(entity, config)
    if not yes:
        click.confirm(f"Erase this {column} for good?", abort=True)
    hasher = hasher_of(config)
    if hasher is not None and column in config.schema_.hash:
        value = hasher.hash(value)
    with door.store(config) as store:
        click.echo(erasing.erase(store, column, value, door.actor, now()).sentence())


@click.command(
    cls=Command,
    epilog="""
    fraudwatch prune --dry-run
    fraudwatch prune
    """,
)
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.pass_obj
def prune(door: Door, dry_run: bool) -> None:
    """Delete what is older than [retention] allows; the daemon does so after every training date."""
    from pipeline.config.retention import cutoffs
    from storage.admin import prune as pruning

    config = door.config()
    with door.store(config) as store:
        gone = pruning.prune(store, cutoffs(config, now()), dry=dry_run)
    told = ", ".join(f"{n:,} {table.replace('_', ' ')}" for table, n in gone.items())
    click.echo(f"{'would go' if dry_run else 'deleted'}: {told or 'nothing is older than its retention'}")


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
def export(door: Door, table: str, output: Path) -> None:
    """Write any table or view to Parquet or CSV; the file appears once it is whole."""
    from pipeline.cli.output import Bar
    from pipeline.services.export import export as write

    with door.store(door.config()) as store, Bar() as bar:
        bar.start(table, None, "rows")
        written = write(store, table, output, bar)
        bar.stop()
    click.echo(f"{table}: {written:,} rows written to {output}")

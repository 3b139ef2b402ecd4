"""Commands about a person who asks: show, export and erase what is stored, and holds, which forbid that for a while."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import (
    CliContext,
    Command,
    Group,
    confirm,
    expiry,
    expiry_options,
    is_confirmed,
    output_option,
    output_options,
    parse_entity,
    reason_option,
)

if TYPE_CHECKING:
    from pipeline.config.config import Config
    from pipeline.services.person import EntityValue, LinkedValue
    from pipeline.services.session import Session

HOLD_COLUMNS = ["hold_id", "column", "value", "reason", "by", "created_at", "until", "ended_at", "state"]
OLD_BYTES = (
    "another program reads the database, so its file still has old bytes of what was erased; the daemon and "
    "fraudwatch prune overwrite them once that program is done, and fraudwatch doctor says so until then"
)


@click.group(cls=Group)
def person() -> None:
    """Show, export or erase what is stored of a person.

    A person is one value of an entity column, and the values of others that --with adds.
    """


def values_options(command: Any) -> Any:
    """--entity and --with, which say who."""
    command = click.option(
        "--with", "others", multiple=True, metavar="COLUMN=VALUE", help="Another value of the same person."
    )(command)
    return click.option("--entity", required=True, metavar="COLUMN=VALUE", help="The person.")(command)


def _values(config: "Config", entity: str, others: tuple[str, ...]) -> "list[EntityValue]":
    from pipeline.services.person import EntityValue

    return [EntityValue(*parse_entity(text, config)) for text in (entity, *others)]


def _link_text(link: "LinkedValue") -> str:
    from pipeline.number_text import counted
    from pipeline.sanitize import for_terminal

    shared = "nobody else" if not link.others else f"{counted(link.others, 'other')}"
    return f"{link.column}={for_terminal(link.value)}: {counted(link.payments, 'payment')} with this person, shared with {shared}"


@person.command("show", epilog="fraudwatch person show --entity customer_id=C001234")
@values_options
@click.pass_obj
def show_person(context: CliContext, entity: str, others: tuple[str, ...]) -> None:
    """Count what is stored of a person.

    Values of other entities that share their payments are listed, and proposed if nearly nobody else shares them.
    """
    from pipeline.services.person import summarise

    with context.session() as session:
        summary = summarise(session, _values(session.config, entity, others))
    for table, n in summary.counts.items():
        click.echo(f"{n:>8,}  {table}")
    if not summary.counts:
        click.echo("nothing is stored of this person")
    for link in summary.links:
        click.echo(f"{'add --with' if link.proposed else 'shared    '}  {_link_text(link)}")


@person.command("export", epilog="fraudwatch person export --entity customer_id=C001234 -o person.json")
@values_options
@output_option
@click.pass_obj
def export_person(context: CliContext, entity: str, others: tuple[str, ...], output: Path | None) -> None:
    """Write everything that is stored of a person as JSON."""
    from pipeline.files import complete_file
    from pipeline.number_text import counted
    from pipeline.services.person import export

    with context.session() as session:
        exported = export(session, _values(session.config, entity, others))
    if output is None:
        click.echo(exported.document.decode())
        return
    with complete_file(output) as unfinished:
        unfinished.write_bytes(exported.document)
    click.echo(
        f"{counted(sum(exported.counts.values()), 'row')} of {counted(len(exported.counts), 'table')} written to {output}"
    )


@person.command(
    "erase",
    epilog="""
    fraudwatch person erase --entity customer_id=C001234
    fraudwatch person erase --entity customer_id=C001234 --with card_id=4242 --yes
    """,
)
@values_options
@click.option("--yes", is_flag=True, help="Erase these values and no others, without asking.")
@click.pass_obj
def erase_person(context: CliContext, entity: str, others: tuple[str, ...], yes: bool) -> None:
    """Replace the values of a person by random pseudonyms.

    They are replaced in every table; values of other entities that nearly nobody shares are proposed. Counts and histories stay the
    same; this cannot be undone. Erase the values at the source and in watched folders first, or they will be ingested again.
    """
    from pipeline.services.person import EntityValue, linked_values

    with context.session() as session:
        values = _values(session.config, entity, others)
        proposed = [link for link in linked_values(session, values) if link.proposed]
        if yes:
            for link in proposed:
                click.echo(f"not erased: {_link_text(link)}; add it by --with", err=True)
        else:
            values += [
                EntityValue(link.column, link.value)
                for link in proposed
                if is_confirmed(f"Is this the same person? {_link_text(link)}")
            ]
            names = ", ".join(dict.fromkeys(value.column for value in values))
            confirm(f"Erase {len(values)} {'value' if len(values) == 1 else 'values'} ({names}) permanently?")
        erase_and_print(session, values)


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
    """Replace one value of an entity by a random pseudonym.

    The same as fraudwatch person erase for one value, without proposals. Erase the value at the source and in watched folders
    first, or it will be ingested again.
    """
    with context.session() as session:
        values = _values(session.config, entity, ())
        if not yes:
            confirm(f"Erase this {values[0].column} permanently?")
        erase_and_print(session, values)


def erase_and_print(session: "Session", values: "list[EntityValue]") -> None:
    """Erase a person, and say what became of each value, and what is left."""
    from pipeline.number_text import counted
    from pipeline.services.person import erase as erase_values

    erasure = erase_values(session, values)
    changed = ", ".join(f"{n:,} in {table}" for table, n in erasure.counts.items() if n)
    for value in erasure.values:
        click.echo(f"{value.column}: the value is {value.pseudonym} now")
    click.echo(f"changed rows: {changed}")
    if erasure.ids:
        click.echo(
            f"{counted(erasure.ids, 'payment has the value in its id', 'payments have the value in their ids')}, which stays",
            err=True,
        )
    if not erasure.overwritten:
        click.echo(OLD_BYTES, err=True)


@click.group(cls=Group)
def hold() -> None:
    """Exempt a value from erasing and pruning for a while."""


@hold.command(
    "add",
    epilog='fraudwatch hold add --entity customer_id=C001234 --for 180d --reason "case 2026-17, court order"',
)
@click.option("--entity", required=True, metavar="COLUMN=VALUE", help="The value to keep.")
@expiry_options
@reason_option
@click.pass_obj
def add_hold(context: CliContext, entity: str, until: Any, span: Any, reason: str) -> None:
    """Keep a value and its payments from being erased or pruned."""
    from pipeline.services.holds import NewHold
    from pipeline.services.holds import add_hold as add

    with context.session() as session:
        column, value = parse_entity(entity, session.config)
        end = expiry(until, span, session.config.schedule.timezone)
        stored = add(session, NewHold(column, value, end, reason))
    click.echo(
        f"hold {stored.hold_id}: {column} until {stored.until:%Y-%m-%d %H:%M:%S} UTC; "
        f"fraudwatch hold end {stored.hold_id} ends it"
    )


@hold.command("list", epilog="fraudwatch hold list\nfraudwatch hold list --format json")
@output_options
@click.pass_obj
def list_holds(context: CliContext, output_format: str, output: Path | None) -> None:
    """List holds with reason, author and end."""
    from pipeline.cli.output import write_rows
    from pipeline.services.holds import list_holds as stored_holds

    with context.session() as session:
        rows = map(asdict, stored_holds(session))
        write_rows(
            rows, HOLD_COLUMNS, output_format, output, "there is no hold: see fraudwatch hold add --help"
        )


@hold.command("end", epilog="fraudwatch hold end 3")
@click.argument("hold_id", type=click.IntRange(min=1))
@click.pass_obj
def end_hold(context: CliContext, hold_id: int) -> None:
    """End a hold early."""
    from pipeline.services.holds import end_hold as end

    with context.session() as session:
        end(session, hold_id)
    click.echo(f"hold {hold_id} has ended")

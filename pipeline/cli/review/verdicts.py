"""Commands about what people say of payments: verdicts on flags, and labels of any payment."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from pipeline.cli.options import (
    CliContext,
    Command,
    Group,
    InstantParam,
    output_options,
    reason_option,
    to_utc,
)

if TYPE_CHECKING:
    from pipeline.services.review.verdicts import VerdictRecord

ANSWERS = {"fraud": "fraud", "genuine": "genuine", "no-opinion": "no_opinion"}
COLUMNS = ("transaction_id", "at", "by", "verdict", "type", "action", "note")

transactions_argument = click.argument("transaction_ids", metavar="[TRANSACTION]...", nargs=-1)
from_option = click.option(
    "--from",
    "file",
    type=click.File("rb"),
    help="Read the ids from this file, one on a line; - for standard input.",
)
type_option = click.option("--type", "fraud_type", help="Type of the fraud, one of labels.fraud_types.")
action_option = click.option(
    "--action",
    type=click.Choice(["blocked", "refunded", "contacted", "none"]),
    default="none",
    show_default=True,
    help="What was done.",
)
note_option = click.option("--note", default="", help="Stored with it and in the audit trail.")


@click.command(
    cls=Command,
    epilog="""
    fraudwatch verdict T000123 fraud --type stolen_card --action blocked
    fraudwatch verdict T000124 genuine --note "customer confirmed by phone"
    fraudwatch verdict T000125 T000126 T000127 no-opinion
    fraudwatch verdict genuine --from ids.txt
    fraudwatch verdict T000123 undo --note "wrong line"
    """,
)
@transactions_argument
@click.argument("answer", type=click.Choice([*ANSWERS, "undo"]))
@from_option
@type_option
@action_option
@note_option
@click.pass_obj
def verdict(
    context: CliContext,
    transaction_ids: tuple[str, ...],
    answer: str,
    file: BinaryIO | None,
    fraud_type: str | None,
    action: Any,
    note: str,
) -> None:
    """Say whether payments are fraud, or close flags undecided.

    fraud and genuine close the flag and become a label; no-opinion closes it and leaves no label. The newest verdict counts. undo
    takes the newest verdict back, from now on, and needs a note. Several payments get the verdict together or not at all.
    """
    from pipeline.services.review.verdicts import NewVerdict, UndoneVerdict, record
    from pipeline.services.review.verdicts import undo as undo_verdicts

    ids = _ids(transaction_ids, file)
    if answer != "undo":
        verdict_of_all = NewVerdict(ids, ANSWERS[answer], fraud_type, action, note)  # type: ignore[arg-type]
        _run(context, record, verdict_of_all)
        return
    if not note or fraud_type is not None or action != "none":
        raise click.UsageError("undo takes --note with the reason, and neither --type nor --action")
    _run(context, undo_verdicts, UndoneVerdict(ids, note))


@click.group(cls=Group)
def label() -> None:
    """Label payments, list and retract what people said."""


@label.command(
    "add",
    epilog="""
    fraudwatch label add T000123 --fraud --source customer --known-at 2026-03-01 --note "called us"
    fraudwatch label add T000124 --genuine --note "checked by hand"
    fraudwatch label add --fraud --type account_takeover --from ids.txt
    """,
)
@transactions_argument
@click.option(
    "--fraud/--genuine", "is_fraud", default=None, help="What the payment turned out to be; required."
)
@click.option(
    "--source",
    type=click.Choice(["investigation", "customer"]),
    default="investigation",
    show_default=True,
    help="An investigation is a person's own finding: it ranks like a review, and on a flag it is one.",
)
@click.option("--known-at", type=InstantParam(), help="When it became known (default: now).")
@from_option
@type_option
@action_option
@note_option
@click.pass_obj
def add_label(
    context: CliContext,
    transaction_ids: tuple[str, ...],
    is_fraud: bool | None,
    source: Any,
    known_at: Any,
    file: BinaryIO | None,
    fraud_type: str | None,
    action: Any,
    note: str,
) -> None:
    """Label payments, whether or not they have a flag."""
    from pipeline.services.review.labels import NewLabel, add_labels

    if is_fraud is None:
        raise click.UsageError("give either --fraud or --genuine")
    instant = to_utc(known_at, context.load_config().schedule.timezone) if known_at else None
    ids, answer = _ids(transaction_ids, file), "fraud" if is_fraud else "genuine"
    _run(context, add_labels, NewLabel(ids, answer, source, fraud_type, action, note, instant))  # type: ignore[arg-type]


@label.command(
    "retract",
    epilog="""
    fraudwatch label retract T000123 --reason "another customer's payment"
    fraudwatch label retract T000123 --source chargeback --reason "withdrawn by the bank"
    """,
)
@transactions_argument
@click.option("--source", help="Retract the newest label of this source (default: the label that counts).")
@from_option
@reason_option
@click.pass_obj
def retract_label(
    context: CliContext,
    transaction_ids: tuple[str, ...],
    source: str | None,
    file: BinaryIO | None,
    reason: str,
) -> None:
    """Retract a label: it no longer counts from now on, and is kept."""
    from pipeline.services.review.labels import LabelRetraction, retract_labels

    _run(context, retract_labels, LabelRetraction(_ids(transaction_ids, file), reason, source))


@label.command(
    "list",
    epilog="""
    fraudwatch label list T000123
    fraudwatch label list --limit 50 --format csv --output verdicts.csv
    """,
)
@click.argument("transaction_id", required=False)
@click.option("--limit", type=click.IntRange(min=1), help="Maximum number of rows.")
@output_options
@click.pass_obj
def list_labels(
    context: CliContext,
    transaction_id: str | None,
    limit: int | None,
    output_format: str,
    output: Path | None,
) -> None:
    """List what people said of a payment, or of all, the newest first."""
    from pipeline.cli.output import write_rows
    from pipeline.services.pages import every
    from pipeline.services.review.verdicts import VerdictRequest, list_verdicts

    with context.session() as session:
        listed = every(list_verdicts, session, VerdictRequest(transaction_id), limit=limit)
        write_rows(map(vars, listed), COLUMNS, output_format, output, "nobody has said anything")


def _ids(named: Sequence[str], file: BinaryIO | None) -> tuple[str, ...]:
    """The ids from the command line, then those from the file without its blank lines."""
    if file is None:
        return tuple(named)
    try:
        lines = file.read().decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise click.UsageError(f"--from {file.name}: its text is not UTF-8") from error
    return (*named, *(line.strip() for line in lines if line.strip()))


def _run(context: CliContext, service: Callable[..., tuple[Any, ...]], request: Any) -> None:
    """Call a service about some payments with a progress bar, and print what changed."""
    from pipeline.cli.output import progress_bar

    with context.session() as session, progress_bar() as bar:
        outcomes = service(session, request, bar)
    for outcome in outcomes[:OUTCOMES_MAX]:
        click.echo(_outcome_text(outcome))
    if len(outcomes) > OUTCOMES_MAX:
        click.echo(f"and {len(outcomes) - OUTCOMES_MAX:,} more, {len(outcomes):,} payments in all")


OUTCOMES_MAX = 20  # that are printed


def _outcome_text(outcome: Any) -> str:
    from pipeline.sanitize import for_terminal

    counts = {True: "fraud", False: "genuine", None: "no label"}[outcome.is_fraud]
    change = f"{outcome.before} → {outcome.after}"
    if outcome.before == outcome.after:
        change = "no flag" if outcome.after is None else f"{outcome.after}, as it was"
    return for_terminal(f"{outcome.transaction_id}: {change}; it counts as {counts}")


def verdict_text(verdict: "VerdictRecord") -> str:
    """What a person said, on one line."""
    parts = [
        verdict.verdict.replace("_", " ") + (f" ({verdict.type})" if verdict.type else ""),
        *([] if verdict.action == "none" else [verdict.action]),
        f"by {verdict.by} at {verdict.at:%Y-%m-%d %H:%M} UTC",
        *([verdict.note] if verdict.note else []),
    ]
    return ", ".join(parts)

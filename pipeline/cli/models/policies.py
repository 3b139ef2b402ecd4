"""Commands about policies: how the flags of two of them differ."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import CliContext, Group, InstantParam, output_options, to_utc

if TYPE_CHECKING:
    from pipeline.services.models.policies import PolicyDifference, PolicyDiffSummary

COLUMNS = ["transaction_id", "event_time", "amount", "flagged_by", "score_a", "score_b", "is_fraud"]


@click.group(cls=Group)
def policies() -> None:
    """Compare live, challengers and rescored policies."""


@policies.command(
    "diff",
    epilog="""
    fraudwatch policies diff live cheaper
    fraudwatch policies diff live cheaper --from 2026-02-01 --to 2026-04-01 --format csv
    """,
)
@click.argument("policy_a")
@click.argument("policy_b")
@click.option("--from", "start", type=InstantParam(), help="Event time from this time on.")
@click.option("--to", "end", type=InstantParam(), help="Event time before this time.")
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=20,
    show_default=True,
    help="Maximum number of transactions to list.",
)
@output_options
@click.pass_obj
def diff_policies(
    context: CliContext,
    policy_a: str,
    policy_b: str,
    start: Any,
    end: Any,
    limit: int,
    output_format: str,
    output: Path | None,
) -> None:
    """Compare the flags of two policies, with amounts.

    On the transactions that both have scored. Rows that a model was trained on are excluded; their number is printed.
    """
    from pipeline.cli.output import write_rows
    from pipeline.services.models.policies import PolicyDiffRequest, compare_policies, list_differences
    from pipeline.services.pages import every

    with context.session() as session:
        zone = session.config.schedule.timezone
        request = PolicyDiffRequest(
            policy=policy_b,
            against=policy_a,
            since=to_utc(start, zone) if start else None,
            until=to_utc(end, zone) if end else None,
        )
        for line in summary_lines(compare_policies(session, request)):
            click.echo(line, err=output_format != "table")
        if limit:
            listed = every(list_differences, session, request, limit=limit)
            write_rows(
                (_row(each, output_format) for each in listed),
                COLUMNS,
                output_format,
                output,
                "both policies flag the same transactions",
            )


def summary_lines(summary: "PolicyDiffSummary") -> Iterator[str]:
    """The differences as sentences."""
    from pipeline.number_text import counted, table_amount

    policy, against = summary.policy, summary.against
    yield f"{counted(summary.transactions, 'transaction was', 'transactions were')} scored by both {against} and {policy}"
    if summary.in_sample:
        yield f"{counted(summary.in_sample, 'more is', 'more are')} left out: a model was trained on them"
    groups = (
        (f"only {against}", summary.only_against), (f"only {policy}", summary.only_policy), ("both", summary.both),
    )  # fmt: skip
    for name, group in groups:
        money = f"{table_amount(group.fraud_amount.value)} {group.fraud_amount.currency}"
        yield f"flagged by {name}: {group.flags:,}, of which {group.frauds:,} are known fraud ({money})"
    more, less = summary.only_policy, summary.only_against
    gained = more.fraud_amount.value - less.fraud_amount.value
    yield (
        f"{policy} instead of {against}: {gained:+,.2f} {more.fraud_amount.currency} of known fraud caught, "
        f"{more.flags - less.flags:+,} {'flag' if abs(more.flags - less.flags) == 1 else 'flags'}"
    )


def _row(difference: "PolicyDifference", output_format: str) -> dict[str, Any]:
    from pipeline.cli.output import score_cell

    return {
        **vars(difference),
        "amount": difference.amount.value,
        "score_a": score_cell(difference.score_against, output_format),
        "score_b": score_cell(difference.score, output_format),
    }

"""The command `readiness`: whether the history is fit for training."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import CliContext, Command, InstantParam, output_options, policy_option, to_utc

if TYPE_CHECKING:
    from pipeline.training.readiness import ReadinessFinding

COLUMNS = ["level", "code", "message", "remedy", "numbers"]
LEVEL_MARKS = {"error": "✗", "warning": "!", "hint": "·"}


@click.command(
    cls=Command,
    epilog="fraudwatch readiness\nfraudwatch readiness --as-of 2026-03-01 --format json\nfraudwatch readiness --last",
)
@click.option(
    "--as-of",
    type=InstantParam(),
    help="Use the data known at this time (default: now, or the newest transaction if older).",
)
@click.option("--last", is_flag=True, help="Show the findings of the newest training instead.")
@policy_option
@output_options
@click.pass_obj
def readiness(
    context: CliContext, as_of: Any, last: bool, policy: str, output_format: str, output: Path | None
) -> None:
    """Check whether the history is fit for training.

    Errors, warnings and hints have numbers and remedies. Every training runs the same checks and stores them in `readiness`; errors prevent a promotion. Exit code 1 on errors.
    """
    from pipeline.cli.output import write_rows
    from pipeline.services.models.readiness import check_readiness, newest_readiness

    if last and as_of:
        raise click.UsageError("--last shows what a training found, --as-of checks anew: omit one of them")
    with context.session() as session:
        if last:
            report = newest_readiness(session, policy)
        else:
            date = to_utc(as_of, session.config.schedule.timezone) if as_of else None
            report = check_readiness(session, policy, date)
    if output_format == "table":
        click.echo("\n".join(_lines(report.findings)))
    else:
        write_rows(map(vars, report.findings), COLUMNS, output_format, output, "")
    if not report.is_ready:
        raise SystemExit(1)


def _lines(findings: "Sequence[ReadinessFinding]") -> Iterator[str]:
    for finding in findings:
        yield f"{LEVEL_MARKS[finding.level]} {finding.code}: {finding.message}"
        yield f"    {finding.remedy}"
    yield _level_counts([finding.level for finding in findings])


def _level_counts(levels: Sequence[str]) -> str:
    parts = [f"{n} {level}{'' if n == 1 else 's'}" for level in LEVEL_MARKS if (n := levels.count(level))]
    return (
        f"{', '.join(parts)}: only errors prevent a promotion"
        if parts
        else "✓ the history is ready for training"
    )

"""
The command `fraudwatch`: registers all commands and prints errors.

Commands import heavy modules only when they run, so `fraudwatch --help` answers at once.
"""

import getpass
import sys
from importlib.metadata import version
from pathlib import Path

import click

from pipeline.cli import (
    admin,
    compare,
    data,
    doctor,
    drift,
    flags,
    models,
    mutes,
    notify,
    policies,
    quality,
    readiness,
    report,
    rules,
    runs,
    strategy,
)
from pipeline.cli.options import CliContext, Group


@click.group(
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""
    fraudwatch init --from payments.csv
    fraudwatch ingest transactions payments.csv
    fraudwatch backfill --from 2026-02-01 --to 2026-04-01
    fraudwatch flags list --status open
    """,
)
@click.option("--config", "config_path", type=click.Path(path_type=Path), help="Config file to use.")
@click.option("--as", "actor", help="Acting user, for the audit trail (default: the login name).")
@click.version_option(version("fraudwatch"), prog_name="fraudwatch")
@click.pass_context
def cli(ctx: click.Context, config_path: Path | None, actor: str | None) -> None:
    """Monitor payments for fraud: score them, flag the suspicious ones and explain why.

    Settings come from --config, FRAUDWATCH_CONFIG, ./config.toml or built-in defaults, in this order;
    FRAUDWATCH_SECTION__KEY overrides any of them.
    """
    ctx.obj = CliContext(config_path, actor or getpass.getuser())


for command in (
    data.init,
    data.ingest,
    data.feeds,
    data.simulate,
    runs.train,
    runs.run,
    runs.backfill,
    runs.daemon,
    runs.list_runs,
    runs.list_gaps,
    flags.flags,
    flags.verdict,
    rules.rule,
    mutes.mute,
    strategy.strategy,
    readiness.readiness,
    compare.compare,
    compare.comparisons,
    models.models,
    policies.policies,
    drift.drift,
    quality.quality,
    doctor.doctor,
    report.report,
    report.summary,
    notify.notify,
    admin.undo,
    admin.erase,
    admin.prune,
    admin.export,
):
    cli.add_command(command)


def main() -> None:
    """Run the command; an expected error is printed as one line without a traceback."""
    try:
        cli(standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("interrupted: finished steps are kept, and nothing is half written", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except expected_errors() as error:
        click.echo(f"fraudwatch: {error}", err=True)
        sys.exit(getattr(error, "exit_code", 1))
    except BrokenPipeError:
        sys.stderr.close()  # the reader of the pipe has closed it, as `head` does
        sys.exit(0)


def expected_errors() -> tuple[type[Exception], ...]:
    """The base classes of all expected errors; imported only when an error has occurred."""
    from detectors.base import DetectorError
    from pipeline.errors import FraudwatchError
    from storage.errors import StorageError

    return FraudwatchError, StorageError, DetectorError

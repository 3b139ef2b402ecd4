"""
The command `fraudwatch`: the tree of commands by section, and errors as one line each.

A command's module is imported when the command is called or listed, and heavy modules only when a command runs, so
`fraudwatch --help` answers at once.
"""

import getpass
import os
import signal
import sys
import threading
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from pipeline.cli.options import CliContext, Group
from pipeline.cli.output_encoding import degrade_characters

# Section → command → where it is defined: MODULE:FUNCTION in pipeline.cli.
SECTIONS = {
    "Data": {
        "init": "data:init",
        "ingest": "data:ingest",
        "feeds": "data:feeds",
        "simulate": "data:simulate",
        "export": "admin:export",
    },
    "Runs": {
        "train": "runs:train",
        "run": "runs:run",
        "score": "runs:score",
        "backfill": "runs:backfill",
        "daemon": "runs:daemon",
        "serve": "runs:serve",
        "runs": "runs:list_runs",
        "gaps": "runs:list_gaps",
    },
    "Review": {
        "flags": "review.flags:flags",
        "verdict": "review.verdicts:verdict",
        "label": "review.verdicts:label",
        "rules": "review.rules:rules",
        "mutes": "review.mutes:mutes",
    },
    "Models": {
        "models": "models.models:models",
        "strategy": "models.strategy:strategy",
        "readiness": "models.readiness:readiness",
        "compare": "models.compare:compare",
        "comparisons": "models.compare:comparisons",
        "policies": "models.policies:policies",
    },
    "Monitoring": {
        "doctor": "monitoring.doctor:doctor",
        "summary": "monitoring.report:summary",
        "report": "monitoring.report:report",
        "drift": "monitoring.drift:drift",
        "quality": "monitoring.quality:quality",
        "rates": "monitoring.rates:rates",
        "limits": "monitoring.rates:limits",
        "notify": "monitoring.notify:notify",
    },
    "Administration": {
        "users": "users:users",
        "tokens": "users:tokens",
        "undo": "admin:undo",
        "person": "person:person",
        "erase": "person:erase",
        "hold": "person:hold",
        "prune": "admin:prune",
        "audit": "admin:audit",
    },
}
# The last bits of sums in BLAS depend on its number of threads: with one, a score does not depend on the machine's cores.
# Boosted trees, which profit from more, are told theirs by training.threads.
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
COMMANDS = {name: where for section in SECTIONS.values() for name, where in section.items()}


class PipeClosed(Exception):  # noqa: N818 - nothing went wrong
    """Nobody reads what the command prints any more."""


class RootGroup(Group):
    """The command `fraudwatch`: it imports a command when that is needed, and lists commands by section."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """All commands, in the order of their sections."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, function = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(f"pipeline.cli.{module}"), function)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; click would end with 1 if the reader of its output has gone, as `head` does."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError as error:
            raise PipeClosed from error
        return result

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands by section, each with the first sentence of its help."""
        for section, names in SECTIONS.items():
            with formatter.section(section):
                self.write_commands(ctx, formatter, names)


@click.group(
    cls=RootGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""
    fraudwatch init --from payments.csv --output config.toml
    fraudwatch ingest transactions payments.csv
    fraudwatch backfill --from 2026-02-01 --to 2026-04-01
    fraudwatch flags list --status open
    """,
)
@click.option("--config", "config_path", type=click.Path(path_type=Path), help="Config file to use.")
@click.option("--as", "actor", help="Acting user, for the audit trail (default: the login name).")
@click.version_option(package_name="fraudwatch", prog_name="fraudwatch")
@click.pass_context
def cli(ctx: click.Context, config_path: Path | None, actor: str | None) -> None:
    """Monitor payments for fraud: score them, flag the suspicious ones and explain why.

    Settings come from --config, FRAUDWATCH_CONFIG, ./config.toml or built-in defaults, in this order;
    FRAUDWATCH_SECTION__KEY overrides any of them.
    """
    ctx.obj = CliContext(config_path, actor or getpass.getuser())


class Terminated(KeyboardInterrupt):
    """SIGTERM has come: what runs ends as it does after Ctrl-C."""


def _terminate(_number: int, _frame: Any) -> None:
    raise Terminated


def main() -> None:
    """Run the command; an expected error is printed as one line without a traceback."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminate)
    for variable in ONE_THREAD:
        os.environ.setdefault(variable, "1")  # read when numpy is imported, which nothing has done yet
    degrade_characters()
    try:
        cli(standalone_mode=False)
    except click.exceptions.Abort as error:
        click.echo("interrupted: finished steps are kept, and nothing is half written", err=True)
        sys.exit(143 if isinstance(error.__cause__, Terminated) else 130)
    except click.MissingParameter as error:
        click.echo(_missing_text(error), err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except PipeClosed:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still to be flushed
        sys.exit(0)
    except Exception as error:
        _exit_if_expected(error)
        raise


def _missing_text(error: click.MissingParameter) -> str:
    """What a command needs and what for, with an example."""
    if error.ctx is None or error.param is None:
        return error.format_message()
    command, param = error.ctx.command, error.param
    name = "/".join(param.opts) if isinstance(param, click.Option) else param.human_readable_name
    purpose = f": {param.help.rstrip('.')}" if isinstance(param, click.Option) and param.help else ""
    examples = (command.epilog or "").strip().splitlines()
    example = f"For example: {examples[0].strip()}" if examples else f"See {error.ctx.command_path} --help"
    return f"{error.ctx.command_path} needs {name}{purpose}. {example}"


def _exit_if_expected(error: Exception) -> None:
    """Print an expected error and exit by its code; numpy and the like are imported only now."""
    from pipeline.cli.remedies import with_command
    from pipeline.expected_errors import EXPECTED_ERRORS

    if isinstance(error, EXPECTED_ERRORS):
        click.echo(f"fraudwatch: {with_command(error)}", err=True)
        sys.exit(getattr(error, "exit_code", 1))

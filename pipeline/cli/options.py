"""Shared by all commands: the context, the clock, parameter types and common options."""

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from pipeline.config.config import Config
    from pipeline.services.session import Session

LIVE = "live"
SENTENCE_MAX = 1_000  # characters; click cuts a longer one
FORMATS = click.Choice(["table", "csv", "json", "parquet"])


def now() -> int:
    """The current time in µs since 1970-01-01 UTC."""
    return time.time_ns() // 1000


@dataclass
class CliContext:
    """The context of a command: the path of the configuration and the acting user."""

    config_path: Path | None
    actor: str

    def load_config(self) -> "Config":
        """Load the configuration."""
        from pipeline.services.session import read_config

        return read_config(self.config_path)

    @contextmanager
    def session(self, *, verified: bool = True) -> Iterator["Session"]:
        """Load the configuration and open its database; only `init` does without `verified`."""
        from pipeline.services.session import open_session

        with open_session(self.load_config(), self.actor, clock=now, verified=verified) as session:
            yield session


class InstantParam(click.ParamType[Any]):
    """A date or time as in files (`pipeline.ingest.formats.instants`); in schedule.timezone if it has no offset."""

    name = "date"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from pipeline.ingest.formats.instants import parse_instant

        if parse_instant(value, "UTC") is None:
            self.fail(
                f"{value!r} is not a date or time: write 2026-03-01 or 2026-03-01T06:00:00+00:00", param, ctx
            )
        return value


class SpanParam(click.ParamType[Any]):
    """A time span such as 90s, 15m, 1h, 7d or 2w, as a `timedelta`."""

    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from datetime import timedelta

        from pipeline.durations import parse_duration

        try:
            return timedelta(microseconds=parse_duration(value))
        except ValueError as error:
            self.fail(f"{value!r} {error}", param, ctx)


def to_instant(value: str, timezone: str) -> int:
    """The value of an `InstantParam` as µs since 1970-01-01 UTC."""
    from pipeline.ingest.formats.instants import parse_instant

    instant = parse_instant(value, timezone)
    assert instant is not None  # `InstantParam` has refused everything else
    return instant


def to_utc(value: str, timezone: str) -> "datetime":
    """The value of an `InstantParam` as an aware time in UTC."""
    from datetime import UTC, datetime, timedelta

    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=to_instant(value, timezone))


def parse_entity(text: str, config: "Config") -> tuple[str, str]:
    """Parse COLUMN=VALUE, where the column is one of `schema.entities`."""
    column, equals, value = text.partition("=")
    entities = config.schema_.entities
    if not equals or not value or column not in entities:
        raise click.UsageError(f"--entity {text!r}: write COLUMN=VALUE with one of {', '.join(entities)}")
    return column, value


def is_confirmed(question: str) -> bool:
    """
    Ask yes or no.

    Raises
    ------
    click.UsageError
        Nobody can answer: standard input is not a terminal, and ended without an answer.
    """
    try:
        return click.confirm(question, err=True)
    except click.Abort:
        if not sys.stdin.isatty():
            raise click.UsageError(f"{question} Nobody can answer here: add --yes") from None
        raise


def confirm(question: str) -> None:
    """Ask before something is done, as `is_confirmed`; a "no" aborts the command."""
    if not is_confirmed(question):
        raise click.Abort


def expiry_options(command: Any) -> Any:
    """--until and --for, for what ends by itself; exactly one of them is required."""
    command = click.option("--until", type=InstantParam(), help="End at this time.")(command)
    return click.option(
        "--for", "span", type=SpanParam(), metavar="SPAN", help="End after this time span, for example 7d."
    )(command)


def expiry(until: Any, span: "timedelta | None", timezone: str) -> "datetime | timedelta":
    """The end that --until or --for gives."""
    if (until is None) == (span is None):
        raise click.UsageError("give either --for or --until, for example --for 7d or --until 2026-04-01")
    return span if span is not None else to_utc(until, timezone)


reason_option = click.option("--reason", required=True, help="Stored with it and in the audit trail.")


def output_option(command: Any) -> Any:
    """--output, for commands that write rows or a file."""
    return click.option(
        "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file."
    )(command)


def output_options(command: Any) -> Any:
    """--format and --output, for commands that list rows."""
    return click.option("--format", "output_format", type=FORMATS, default="table", show_default=True)(
        output_option(command)
    )


def policy_option(command: Any) -> Any:
    """--policy, for commands that read one policy."""
    help_text = "live, a challenger, or the policy of a backfill --rescore."
    return click.option("--policy", default=LIVE, show_default=True, metavar="NAME", help=help_text)(command)


class Command(click.Command):
    """A command that prints its examples (the epilog) line by line."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the examples without rewrapping them."""
        write_examples(self.epilog, formatter)


class Group(click.Group):
    """A command group that prints its examples (the epilog) line by line."""

    command_class = Command
    group_class = type

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is called; an unknown one is refused with the name that may be meant."""
        from pipeline.config.key_names import did_you_mean

        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            meant = did_you_mean(name, self.list_commands(ctx))
            ctx.fail(f"there is no command {name!r}{meant or ': see --help'}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands, each with the first sentence of its help."""
        with formatter.section("Commands"):
            self.write_commands(ctx, formatter, self.list_commands(ctx))

    def write_commands(
        self, ctx: click.Context, formatter: click.HelpFormatter, names: Iterable[str]
    ) -> None:
        """Write some of the commands; a sentence is never cut."""
        width = max(map(len, self.list_commands(ctx)))
        commands = {name: self.get_command(ctx, name) for name in names}
        formatter.write_dl(
            [
                (name.ljust(width), command.get_short_help_str(SENTENCE_MAX))
                for name, command in commands.items()
                if command
            ]
        )

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the examples without rewrapping them."""
        write_examples(self.epilog, formatter)


def write_examples(text: str | None, formatter: click.HelpFormatter) -> None:
    """Write the examples of an epilog, one per line."""
    if text:
        with formatter.section("Examples"):
            for line in text.strip().splitlines():
                formatter.write(f"  {line.strip()}\n")

"""Shared by all commands: the context, the clock, parameter types and common options."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from datetime import datetime

    from pipeline.config.config import Config
    from pipeline.services.session import Session
    from storage.database.database import Store

LIVE = "live"
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
        import os

        from pipeline.config.loader import load_config

        return load_config(self.config_path, os.environ)

    @contextmanager
    def session(self, *, verified: bool = True) -> Iterator["Session"]:
        """Load the configuration and open its database; only `init` does without `verified`."""
        from pipeline.services.session import open_session

        with open_session(self.load_config(), self.actor, clock=now, verified=verified) as session:
            yield session

    @contextmanager
    def open_store(self, config: "Config", *, verified: bool = True) -> Iterator["Store"]:
        """Open the database; if `verified`, it must belong to this monitor and have the current schema."""
        from pipeline.config.database import open_configured
        from storage.database.setup import verify

        with open_configured(config) as store:
            if verified:
                verify(store, config.monitor.name)
            yield store


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


def output_options(command: Any) -> Any:
    """--format and --output, for commands that list rows."""
    command = click.option(
        "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file."
    )(command)
    return click.option("--format", "output_format", type=FORMATS, default="table", show_default=True)(
        command
    )


def policy_option(command: Any) -> Any:
    """--policy, for commands that read one policy."""
    help_text = "live, a challenger, or the policy of a backfill --rescore."
    return click.option("--policy", default=LIVE, show_default=True, metavar="NAME", help=help_text)(command)


class Group(click.Group):
    """A command group that prints its examples (the epilog) line by line."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the examples without rewrapping them."""
        write_examples(self.epilog, formatter)


class Command(click.Command):
    """A command that prints its examples (the epilog) line by line."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the examples without rewrapping them."""
        write_examples(self.epilog, formatter)


Group.command_class = Command
Group.group_class = type


def write_examples(text: str | None, formatter: click.HelpFormatter) -> None:
    """Write the examples of an epilog, one per line."""
    if text:
        with formatter.section("Examples"):
            for line in text.strip().splitlines():
                formatter.write(f"  {line.strip()}\n")

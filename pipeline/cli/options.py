"""What commands share: the context they are handed, the clock, and options that several take."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pipeline.config.config import Config
    from storage.database.database import Store

LIVE = "live"
MICROSECONDS = 1_000_000
FORMATS = click.Choice(["table", "csv", "json", "parquet"])


def now() -> int:
    """This moment in µs since 1970-01-01 UTC."""
    return time.time_ns() // 1000


@dataclass
class Door:
    """What every command is handed: where the config is and who is asking."""

    config_path: Path | None
    actor: str

    def config(self) -> "Config":
        """The configuration that applies."""
        import os

        from pipeline.config.loader import load_config

        return load_config(self.config_path, os.environ)

    @contextmanager
    def store(self, config: "Config", *, verified: bool = True) -> Iterator["Store"]:
        """The database, open; refused when it is another monitor's or an older schema's."""
        from pipeline.config.database import open_configured
        from storage.database.setup import verify

        with open_configured(config) as store:
            if verified:
                verify(store, config.monitor.name)
            yield store


class Instant(click.ParamType[Any]):
    """A date (midnight in schedule.timezone) or an ISO time; a time without an offset is in that zone, too."""

    name = "date"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from datetime import datetime

        try:
            return datetime.fromisoformat(value)
        except ValueError:
            self.fail(
                f"{value!r} is not a date or time: write 2026-03-01 or 2026-03-01T06:00:00+00:00", param, ctx
            )


def in_zone(value: Any, timezone: str) -> int:
    """A parsed `Instant` as µs since 1970-01-01 UTC."""
    from zoneinfo import ZoneInfo

    aware = value if value.tzinfo else value.replace(tzinfo=ZoneInfo(timezone))
    return int(int(aware.timestamp()) * MICROSECONDS + aware.microsecond)


def entity_of(text: str, config: "Config") -> tuple[str, str]:
    """Read COLUMN=VALUE, the column one of `schema.entities`."""
    column, equals, value = text.partition("=")
    known = config.schema_.entities
    if not equals or not value or column not in known:
        raise click.UsageError(f"--entity {text!r}: write COLUMN=VALUE with one of {', '.join(known)}")
    return column, value


def output_options(command: Any) -> Any:
    """--format and --output, the same for everything that lists rows."""
    command = click.option(
        "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file."
    )(command)
    return click.option("--format", "form", type=FORMATS, default="table", show_default=True)(command)


def policy_option(command: Any) -> Any:
    """--policy, the same for everything that looks at one."""
    said = "Live's, or those of a shadow or of a backfill --rescore."
    return click.option("--policy", default=LIVE, show_default=True, metavar="NAME", help=said)(command)


class Examples(click.Group):
    """A group whose commands' epilogs (the examples) keep their lines."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the examples as they stand."""
        examples(self.epilog, formatter)


class Command(click.Command):
    """A command whose epilog (the examples) keeps its lines."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the examples as they stand."""
        examples(self.epilog, formatter)


Examples.command_class = Command
Examples.group_class = type


def examples(text: str | None, formatter: click.HelpFormatter) -> None:
    """Write the lines of an epilog, each on its own."""
    if text:
        with formatter.section("Examples"):
            for line in text.strip().splitlines():
                formatter.write(f"  {line.strip()}\n")

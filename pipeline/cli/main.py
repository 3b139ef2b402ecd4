"""
The command `fraudwatch`: arguments → one call each, prints, exit codes.

This module is one of the two doors that read the clock. It imports nothing heavy before a command is chosen,
so that `fraudwatch --help` answers at once.
"""

import getpass
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pipeline.config.loader import Config
    from pipeline.schedule.run_context import Tally
    from storage.database.database import Store

LIVE = "live"
MICROSECONDS = 1_000_000


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


@click.group(
    cls=Examples,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""
    fraudwatch init --from payments.csv
    fraudwatch ingest transactions payments.csv
    fraudwatch backfill --from 2026-02-01 --to 2026-04-01
    fraudwatch flags --status open
    """,
)
@click.option("--config", "config_path", type=click.Path(path_type=Path), help="Config file to use.")
@click.option("--as", "actor", help="Who is acting, for the audit trail (default: the login name).")
@click.version_option(version("fraudwatch"), prog_name="fraudwatch")
@click.pass_context
def cli(ctx: click.Context, config_path: Path | None, actor: str | None) -> None:
    """Watch payments for fraud: score them, flag the suspicious ones, and say why.

    Settings come from --config, FRAUDWATCH_CONFIG, ./config.toml or built-in defaults, in this order;
    FRAUDWATCH_SECTION__KEY overrides any of them.
    """
    ctx.obj = Door(config_path, actor or getpass.getuser())


@cli.command(
    epilog="""
    fraudwatch init
    fraudwatch init --from payments.csv > config.toml
    """
)
@click.option(
    "--from", "sample", type=click.Path(path_type=Path), help="Propose a [schema] from this file instead."
)
@click.pass_obj
def init(door: Door, sample: Path | None) -> None:
    """Create or upgrade the database; safe to repeat.

    With --from, write a proposed config for the columns of a CSV, Parquet or JSON Lines file to standard
    output, with the reason of every guess, and touch no database.
    """
    if sample is not None:
        from pipeline.schema_inference.propose import propose

        click.echo(propose(sample).toml, nl=False)
        return
    from storage.database.setup import upgrade

    config = door.config()
    with door.store(config, verified=False) as store:
        for line in upgrade(store, config.monitor.name, now(), config.labels.precedence):
            click.echo(line)


@cli.group(cls=Examples)
def ingest() -> None:
    """Read transactions or labels into the database."""


def ingest_options(command: Any) -> Any:
    """The options that both kinds of ingest share."""
    for option in (
        click.option("--from-sql", "sql", metavar="NAME", help="Read the query of [source.NAME]."),
        click.option(
            "--format", "form", type=click.Choice(["csv", "parquet", "jsonl"]), help="Of the input."
        ),
        click.option(
            "--history/--as-arrived",
            default=None,
            help="Was it known when it happened, or only now? Default: history until a window was scored.",
        ),
        click.option(
            "--known-after", metavar="SPAN", help="Labels became known so long after the event: 7d."
        ),
        click.option("--complete-through", type=Instant(), help="Labels are complete up to this date."),
    ):
        command = option(command)
    return click.argument("paths", nargs=-1)(command)


@ingest.command(
    "transactions",
    epilog="""
    fraudwatch ingest transactions payments.csv more.parquet
    zcat payments.jsonl.gz | fraudwatch ingest transactions - --format jsonl
    fraudwatch ingest transactions --from-sql warehouse
    """,
)
@ingest_options
@click.pass_obj
def ingest_transactions(door: Door, /, **options: Any) -> None:
    """Read transactions from files, standard input (-) or a configured query."""
    _ingest(door, "transactions", **options)


@ingest.command(
    "labels",
    epilog="""
    fraudwatch ingest labels chargebacks.csv
    fraudwatch ingest labels frauds.csv --known-after 7d --complete-through 2026-04-01
    """,
)
@ingest_options
@click.pass_obj
def ingest_labels(door: Door, /, **options: Any) -> None:
    """Read labels: transaction_id, is_fraud, known_at and optionally source."""
    _ingest(door, "labels", **options)


def _ingest(
    door: Door,
    kind: str,
    paths: tuple[str, ...],
    sql: str | None,
    form: str | None,
    history: bool | None,
    known_after: str | None,
    complete_through: Any,
) -> None:
    from pipeline.cli.output import Bar
    from pipeline.durations import parse_duration
    from pipeline.ingest import ingest as ingesting

    config = door.config()
    sources = ingesting.sources(config, kind, paths, sql, form)
    options = ingesting.Options(
        history,
        parse_duration(known_after) if known_after else None,
        in_zone(complete_through, config.schedule.timezone) if complete_through else None,
    )
    work = ingesting.ingest_transactions if kind == "transactions" else ingesting.ingest_labels
    with door.store(config) as store, Bar() as bar:
        for report in work(
            store,
            config,
            sources,
            clock=now,
            options=options,
            progress=bar,
        ):
            bar.stop()
            click.echo("\n".join(report.lines()))


@cli.command(
    epilog="""
    fraudwatch train
    fraudwatch train --as-of 2026-03-01
    fraudwatch train --shadow cautious
    """
)
@click.option("--as-of", type=Instant(), help="The training date (default: now).")
@click.option("--shadow", metavar="NAME", help="Train this shadow instead of live, by its own section.")
@click.pass_obj
def train(door: Door, as_of: Any, shadow: str | None) -> None:
    """Measure how rare fraud is, choose a strategy, fit a model and promote it, unless the gate refuses."""
    from pipeline.cli.output import Bar
    from pipeline.runs.scoring_run import train_once

    config = door.config()
    if shadow is not None and shadow not in config.shadow:
        configured = ", ".join(sorted(config.shadow)) or "none"
        raise click.UsageError(
            f"--shadow {shadow}: there is no [shadow.{shadow}]; configured are {configured}"
        )
    date, policy = _not_later(as_of, config), shadow or LIVE
    own = config.of_policy(policy)
    with door.store(config) as store, Bar() as bar:
        tally = train_once(store, own, date=date, as_of=now(), policy=policy, by=door.actor, progress=bar)
        bar.stop()
    _print_tally(tally)


@cli.command(
    epilog="""
    fraudwatch run
    fraudwatch run --as-of 2026-03-02T01:00
    """
)
@click.option("--as-of", type=Instant(), help="Run as of this time (default: now).")
@click.pass_obj
def run(door: Door, as_of: Any) -> None:
    """Do whatever is due: trainings, windows to score, what came late; tell of it ([notify]); then the same for shadows."""
    from pipeline.cli.output import Bar
    from pipeline.notifications import apprise_transport as sending
    from pipeline.notifications import deliver as notify
    from pipeline.runs import challengers as shadows
    from pipeline.runs.scoring_run import run as run_cycle

    config = door.config()
    sending.insist(config)
    moment = _not_later(as_of, config)

    def once(settings: "Config", policy: str) -> "Tally":
        return run_cycle(store, settings, as_of=moment, policy=policy, by=door.actor, progress=bar)

    with door.store(config) as store, Bar() as bar:
        tally = once(config, LIVE)
        told = notify.tell(store, config, LIVE, clock=now, by=door.actor)
        said = [turn.sentence for turn in shadows.in_turn(config, once)]
        said += [
            f"shadow {name} is no longer configured: its work has ended"
            for name in shadows.retire(store, config)
        ]
    if told.sent or told.failed:
        click.echo(told.sentence(), err=True)
    click.echo("".join(f"{line}\n" for line in said), nl=False)
    _print_tally(tally)


@cli.command(
    epilog="""
    fraudwatch backfill --from 2026-02-01 --to 2026-04-01
    fraudwatch backfill --from 2026-02-01 --to 2026-04-01 --workers 4
    fraudwatch backfill --from 2026-02-01 --to 2026-04-01 --rescore --policy cheaper
    """
)
@click.option("--from", "start", type=Instant(), required=True, help="First day to score.")
@click.option("--to", "end", type=Instant(), required=True, help="The day after the last one.")
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Processes.")
@click.option(
    "--rescore", is_flag=True, help="Write under another policy, leaving live scores and flags alone."
)
@click.option("--policy", help="The policy that --rescore writes under.")
@click.option(
    "--model", "model_id", type=int, help="With --rescore: score by this model instead of retraining."
)
@click.pass_obj
def backfill(
    door: Door,
    start: Any,
    end: Any,
    workers: int,
    rescore: bool,
    policy: str | None,
    model_id: int | None,
) -> None:
    """Score past windows as the schedule would have run them, trainings included.

    Transactions that have a score keep it, so a backfill may be interrupted and repeated. Shadows are backfilled
    after live. With --rescore the
    current config is tried on the past under a policy of its own: compare with fraudwatch diff.
    """
    from pipeline.cli.output import Bar
    from pipeline.runs import challengers as shadows
    from pipeline.runs.backfill import backfill as run_backfill
    from pipeline.runs.backfill import check_model

    config = door.config()
    zone = config.schedule.timezone
    span = in_zone(start, zone), in_zone(end, zone)
    if span[0] >= span[1]:
        raise click.UsageError(f"--from {start} must be before --to {end}: the span is [from, to)")
    if rescore != (policy is not None and policy != LIVE):
        raise click.UsageError(
            f"--rescore writes under a policy other than {LIVE}: give both, as in --rescore --policy try"
        )
    if model_id is not None and not rescore:
        raise click.UsageError(
            "--model goes with --rescore: live scores come from the models that were promoted"
        )
    if policy in config.shadow:
        raise click.UsageError(
            f"--policy {policy} is a shadow, which scores by its own section: choose another name for --rescore"
        )
    moment = now()

    def filled(settings: "Config", named: str) -> "Tally":
        return run_backfill(
            store,
            settings,
            start=span[0],
            end=span[1],
            as_of=moment,
            policy=named,
            by=door.actor,
            workers=workers,
            model_id=model_id,
            progress=bar,
        )

    with door.store(config) as store, Bar() as bar:
        if model_id is not None:
            check_model(store, model_id)
        tally = filled(config, policy or LIVE)
        told = [] if rescore else [turn.sentence for turn in shadows.in_turn(config, filled)]
    click.echo("".join(f"{line}\n" for line in told), nl=False)
    _print_tally(tally)


@cli.command(
    epilog="""
    fraudwatch daemon
    fraudwatch daemon --log json
    fraudwatch daemon --once
    """
)
@click.option("--once", is_flag=True, help="Run one tick and leave.")
@click.option("--log", "form", type=click.Choice(["console", "json"]), default="console", show_default=True)
@click.pass_obj
def daemon(door: Door, once: bool, form: Any) -> None:
    """Run for months: read feeds, train, score and flag whenever something is due.

    A second daemon on the same database stands by and takes over when the first one dies. SIGTERM finishes the
    step at hand; SIGHUP reloads the config and keeps the old one when the new one is bad.
    """
    from pipeline.daemon import logs
    from pipeline.daemon.daemon import Daemon, serve

    logs.configure(form)
    running = Daemon(door.config, by=door.actor, clock=now)
    if not once:
        sys.exit(serve(running))
    try:
        _print_tally(running.once())
    finally:
        running.close()


def _not_later(value: Any, config: "Config") -> int:
    moment = now()
    asked = in_zone(value, config.schedule.timezone) if value else moment
    if asked > moment:
        raise click.UsageError(f"--as-of {value} lies in the future: nothing is known of it yet")
    return asked


def _print_tally(tally: "Tally") -> None:
    click.echo(tally.sentence())
    if tally.failures:
        sys.exit(1)


@cli.command(
    epilog="""
    fraudwatch simulate --days 90 --seed 7 --output demo
    fraudwatch simulate --days 30 --fraud-rate 0.01 --drift --format csv --output data
    """
)
@click.option("--days", type=click.IntRange(min=2), default=90, show_default=True)
@click.option("--seed", type=int, default=7, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder to write to.")
@click.option("--format", "form", type=click.Choice(["parquet", "csv"]), default="parquet", show_default=True)
@click.option("--per-day", type=click.IntRange(min=10), default=3000, show_default=True)
@click.option("--fraud-rate", type=float, help="Share of transactions that are fraud.")
@click.option("--drift", is_flag=True, help="Let amounts and channels shift in the last third.")
@click.option("--truth", is_flag=True, help="Also write what every transaction really was.")
@click.pass_obj
def simulate(_door: Door, /, days: int, seed: int, output: Path, form: Any, **options: Any) -> None:
    """Make transactions and delayed labels that match the shipped [schema]."""
    from pipeline.simulation.simulate import simulate as make

    given = {name: value for name, value in options.items() if value is not None}
    made = make(days=days, seed=seed, output=output, format=form, **given)
    click.echo(made.sentence())


def join_commands() -> None:
    """Let the commands of the other files join the group."""
    from pipeline.cli import admin as cli_admin
    from pipeline.cli import choices as cli_choose
    from pipeline.cli import compare as cli_compare
    from pipeline.cli import drift as cli_drift
    from pipeline.cli import flags as cli_query
    from pipeline.cli import models as cli_models
    from pipeline.cli import mutes as cli_mutes
    from pipeline.cli import notify as cli_notify
    from pipeline.cli import quality as cli_quality
    from pipeline.cli import report as cli_report
    from pipeline.cli import rules as cli_rules


def main() -> None:
    """Run the command; what users, operators or time can put right is one line, never a traceback."""
    join_commands()
    try:
        cli(standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("interrupted: what was finished is kept, nothing is half written", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except known_errors() as error:
        click.echo(f"fraudwatch: {error}", err=True)
        sys.exit(getattr(error, "exit_code", 1))
    except BrokenPipeError:
        sys.stderr.close()  # the reader of a pipe had enough, as `head` does
        sys.exit(0)


def known_errors() -> tuple[type[Exception], ...]:
    """The three roots of everything that is expected to go wrong; imported only when something did."""
    from detectors.base import DetectorError
    from pipeline.errors import FraudwatchError
    from storage.errors import StorageError

    return FraudwatchError, StorageError, DetectorError

"""Commands that train, run what is due, backfill or start the daemon, and that list runs and gaps."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import (
    LIVE,
    CliContext,
    Command,
    InstantParam,
    now,
    output_options,
    policy_option,
    to_instant,
)

if TYPE_CHECKING:
    from pipeline.config.config import Config
    from pipeline.schedule.run_context import RunSummary


@click.command(
    cls=Command,
    epilog="""
    fraudwatch train
    fraudwatch train --as-of 2026-03-01
    fraudwatch train --shadow cautious
    """,
)
@click.option("--as-of", type=InstantParam(), help="The training date (default: now).")
@click.option("--shadow", metavar="NAME", help="Train the challenger of [shadow.NAME] instead of live.")
@click.pass_obj
def train(context: CliContext, as_of: Any, shadow: str | None) -> None:
    """Estimate the prevalence of fraud, choose a strategy, fit a model and promote it, unless the gate rejects it."""
    from pipeline.cli.output import ProgressBar
    from pipeline.runs.scoring_run import train_once

    config = context.load_config()
    if shadow is not None and shadow not in config.shadow:
        configured = ", ".join(sorted(config.shadow)) or "none"
        raise click.UsageError(
            f"--shadow {shadow}: there is no [shadow.{shadow}] section; configured are {configured}"
        )
    date, policy = _parse_as_of(as_of, config), shadow or LIVE
    own = config.for_policy(policy)
    with context.open_store(config) as store, ProgressBar() as bar:
        summary = train_once(
            store, own, date=date, as_of=now(), policy=policy, by=context.actor, progress=bar
        )
        bar.stop()
    _print_summary(summary)


@click.command(
    cls=Command,
    epilog="""
    fraudwatch run
    fraudwatch run --as-of 2026-03-02T01:00
    """,
)
@click.option("--as-of", type=InstantParam(), help="Run as of this time (default: now).")
@click.pass_obj
def run(context: CliContext, as_of: Any) -> None:
    """Process everything that is due: trainings, windows and late arrivals; send notifications; then run challengers."""
    from pipeline.cli.notify import delivery_text
    from pipeline.cli.output import ProgressBar
    from pipeline.notifications import apprise_transport, deliver
    from pipeline.runs import challengers
    from pipeline.runs.scoring_run import run as run_cycle

    config = context.load_config()
    apprise_transport.require_apprise(config)
    moment = _parse_as_of(as_of, config)

    def run_policy(settings: "Config", policy: str) -> "RunSummary":
        return run_cycle(store, settings, as_of=moment, policy=policy, by=context.actor, progress=bar)

    with context.open_store(config) as store, ProgressBar() as bar:
        summary = run_policy(config, LIVE)
        delivery = deliver.send_notifications(store, config, clock=now, by=context.actor)
        lines = [result.sentence() for result in challengers.run_challengers(config, run_policy)]
        lines += [
            f"challenger {name} is no longer configured and has been retired"
            for name in challengers.retire(store, config)
        ]
    if delivery.sent or delivery.errors:
        click.echo(delivery_text(delivery), err=True)
    click.echo("".join(f"{line}\n" for line in lines), nl=False)
    _print_summary(summary)


@click.command(
    cls=Command,
    epilog="""
    fraudwatch backfill --from 2026-02-01 --to 2026-04-01
    fraudwatch backfill --from 2026-02-01 --to 2026-04-01 --workers 4
    fraudwatch backfill --from 2026-02-01 --to 2026-04-01 --rescore --policy cheaper
    """,
)
@click.option("--from", "start", type=InstantParam(), required=True, help="First day to score.")
@click.option("--to", "end", type=InstantParam(), required=True, help="The day after the last one.")
@click.option(
    "--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Number of processes."
)
@click.option(
    "--rescore", is_flag=True, help="Store scores under another policy; live scores and flags do not change."
)
@click.option("--policy", help="The policy under which --rescore stores scores.")
@click.option("--model", "model_id", type=int, help="With --rescore: score by this model, without trainings.")
@click.pass_obj
def backfill(
    context: CliContext,
    start: Any,
    end: Any,
    workers: int,
    rescore: bool,
    policy: str | None,
    model_id: int | None,
) -> None:
    """Score past windows as the schedule would have done, trainings included.

    A backfill is idempotent and may be interrupted: transactions keep their scores. Challengers are backfilled after
    live. --rescore backtests the current config under a policy of its own; compare it with fraudwatch policies diff.
    """
    from pipeline.cli.output import ProgressBar
    from pipeline.runs import challengers
    from pipeline.runs.backfill import backfill as run_backfill
    from pipeline.runs.backfill import require_model

    config = context.load_config()
    zone = config.schedule.timezone
    span = to_instant(start, zone), to_instant(end, zone)
    if span[0] >= span[1]:
        raise click.UsageError(f"--from {start} must be before --to {end}: the span is [from, to)")
    if rescore != (policy is not None and policy != LIVE):
        raise click.UsageError(
            f"--rescore and --policy go together, with a policy other than {LIVE}, for example --rescore --policy try"
        )
    if model_id is not None and not rescore:
        raise click.UsageError("--model needs --rescore: live scores always come from promoted models")
    if policy in config.shadow:
        raise click.UsageError(
            f"--policy {policy} is a challenger, which scores by its own section: choose another name for --rescore"
        )
    moment = now()

    def backfill_policy(settings: "Config", name: str) -> "RunSummary":
        return run_backfill(
            store,
            settings,
            start=span[0],
            end=span[1],
            as_of=moment,
            policy=name,
            by=context.actor,
            workers=workers,
            model_id=model_id,
            progress=bar,
        )

    with context.open_store(config) as store, ProgressBar() as bar:
        if model_id is not None:
            require_model(store, model_id)
        summary = backfill_policy(config, policy or LIVE)
        results = [] if rescore else list(challengers.run_challengers(config, backfill_policy))
    click.echo("".join(f"{result.sentence()}\n" for result in results), nl=False)
    _print_summary(summary)


@click.command(
    cls=Command,
    epilog="""
    fraudwatch daemon
    fraudwatch daemon --log json
    fraudwatch daemon --once
    """,
)
@click.option("--once", is_flag=True, help="Run one tick and exit.")
@click.option(
    "--log", "log_format", type=click.Choice(["console", "json"]), default="console", show_default=True
)
@click.pass_obj
def daemon(context: CliContext, once: bool, log_format: Any) -> None:
    """Run continuously: read feeds, train, score and flag whenever something is due.

    A second daemon on the same database stands by and takes over when the first one dies. SIGTERM finishes the
    current step and stops; SIGHUP reloads the config, and if the new one is invalid, the old one stays in force.
    """
    from pipeline.daemon import logs
    from pipeline.daemon.daemon import Daemon, serve

    logs.configure(log_format)
    running = Daemon(context.load_config, by=context.actor, clock=now)
    if not once:
        sys.exit(serve(running))
    try:
        _print_summary(running.once())
    finally:
        running.close()


def _parse_as_of(value: Any, config: "Config") -> int:
    moment = now()
    as_of = to_instant(value, config.schedule.timezone) if value else moment
    if as_of > moment:
        raise click.UsageError(f"--as-of {value} is in the future: give a time that has passed")
    return as_of


def _print_summary(summary: "RunSummary") -> None:
    click.echo(summary.sentence())
    if summary.failures:
        sys.exit(1)


RUN_COLUMNS = ["run_id", "kind", "as_of", "status", "counts", "error"]
GAP_COLUMNS = ["kind", "window_start", "window_end", "status", "attempts", "not_before", "error", "remedy"]


@click.command("runs", cls=Command, epilog="fraudwatch runs\nfraudwatch runs --format json --limit 5")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True)
@policy_option
@output_options
@click.pass_obj
def list_runs(context: CliContext, limit: int, policy: str, output_format: str, output: Path | None) -> None:
    """List runs, newest first."""
    from pipeline.cli.output import write_rows
    from pipeline.services.pages import every
    from pipeline.services.runs import list_runs as run_page

    with context.session() as session:
        listed = every(lambda cursor, n: run_page(session, policy, limit=n, cursor=cursor), limit)
        message = "nothing has run yet: fraudwatch run, or fraudwatch backfill"
        write_rows(map(vars, listed), RUN_COLUMNS, output_format, output, message)


@click.command("gaps", cls=Command, epilog="fraudwatch gaps\nfraudwatch gaps --format json --limit 5")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True)
@policy_option
@output_options
@click.pass_obj
def list_gaps(context: CliContext, limit: int, policy: str, output_format: str, output: Path | None) -> None:
    """List due steps that are not done, oldest first, with their remedies."""
    from pipeline.cli.output import write_rows
    from pipeline.rendering.text import GAP_REMEDIES
    from pipeline.services.pages import every
    from pipeline.services.runs import list_gaps as gap_page

    with context.session() as session:
        listed = every(lambda cursor, n: gap_page(session, policy, limit=n, cursor=cursor), limit)
        rows = (vars(gap) | {"remedy": GAP_REMEDIES[gap.remedy]} for gap in listed)
        write_rows(rows, GAP_COLUMNS, output_format, output, "no gaps: every due step is done")

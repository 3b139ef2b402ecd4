"""Commands that run: trainings, what is due, the past, and the daemon; and what ran."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import (
    LIVE,
    Command,
    Door,
    Instant,
    in_zone,
    now,
    output_options,
)

if TYPE_CHECKING:
    from pipeline.config.config import Config
    from pipeline.schedule.run_context import Tally


@click.command(
    cls=Command,
    epilog="""
    fraudwatch train
    fraudwatch train --as-of 2026-03-01
    fraudwatch train --shadow cautious
    """,
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


@click.command(
    cls=Command,
    epilog="""
    fraudwatch run
    fraudwatch run --as-of 2026-03-02T01:00
    """,
)
@click.option("--as-of", type=Instant(), help="Run as of this time (default: now).")
@click.pass_obj
def run(door: Door, as_of: Any) -> None:
    """Do whatever is due: trainings, windows to score, what came late; tell of it ([notify]); then the same for shadows."""
    from pipeline.cli.output import Bar
    from pipeline.notifications import apprise_transport, deliver
    from pipeline.runs import challengers
    from pipeline.runs.scoring_run import run as run_cycle

    config = door.config()
    apprise_transport.insist(config)
    moment = _not_later(as_of, config)

    def once(settings: "Config", policy: str) -> "Tally":
        return run_cycle(store, settings, as_of=moment, policy=policy, by=door.actor, progress=bar)

    with door.store(config) as store, Bar() as bar:
        tally = once(config, LIVE)
        told = deliver.tell(store, config, LIVE, clock=now, by=door.actor)
        said = [turn.sentence for turn in challengers.in_turn(config, once)]
        said += [
            f"shadow {name} is no longer configured: its work has ended"
            for name in challengers.retire(store, config)
        ]
    if told.sent or told.failed:
        click.echo(told.sentence(), err=True)
    click.echo("".join(f"{line}\n" for line in said), nl=False)
    _print_tally(tally)


@click.command(
    cls=Command,
    epilog="""
    fraudwatch backfill --from 2026-02-01 --to 2026-04-01
    fraudwatch backfill --from 2026-02-01 --to 2026-04-01 --workers 4
    fraudwatch backfill --from 2026-02-01 --to 2026-04-01 --rescore --policy cheaper
    """,
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
    from pipeline.runs import challengers
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
        told = [] if rescore else [turn.sentence for turn in challengers.in_turn(config, filled)]
    click.echo("".join(f"{line}\n" for line in told), nl=False)
    _print_tally(tally)


@click.command(
    cls=Command,
    epilog="""
    fraudwatch daemon
    fraudwatch daemon --log json
    fraudwatch daemon --once
    """,
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


def listing(name: str, columns: list[str], empty: str, help_: str) -> click.Command:
    """A command that lists what `storage.reports` has under that name, newest first."""

    @click.command(
        name, cls=Command, help=help_, epilog=f"fraudwatch {name}\nfraudwatch {name} --format json --limit 5"
    )
    @click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True)
    @output_options
    @click.pass_obj
    def command(door: Door, limit: int, form: str, output: Path | None) -> None:
        from pipeline.cli import output as console
        from storage.queries import listings

        config = door.config()
        with door.store(config) as store:
            rows = getattr(listings, name)(store, LIVE, limit=limit)
            console.show(rows, columns, form, output, empty)

    return command


list_runs = listing(
    "runs",
    ["run_id", "kind", "started_at", "finished_at", "status", "counts", "error"],
    "nothing has run yet: fraudwatch run, or fraudwatch backfill",
    "List runs, newest first.",
)

list_gaps = listing(
    "gaps",
    ["kind", "window_start", "window_end", "status", "attempts", "not_before", "error", "remedy"],
    "no gaps: everything that was due is done",
    "List what was due and is not done, oldest first, with the remedy.",
)

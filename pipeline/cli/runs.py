"""Commands that train, run what is due, backfill or start the daemon, and that list runs and gaps."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import (
    CliContext,
    Command,
    InstantParam,
    now,
    output_options,
    policy_option,
    to_utc,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from pipeline.config.config import Config
    from pipeline.services.models.models import ListedModel
    from pipeline.services.runs.backfill import BackfillRequest, StoredSpan
    from pipeline.services.runs.scoring import ScoreAnswer
    from pipeline.services.runs.tick import ChallengerRun, RunSummary, TickEvent


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
    """Choose a strategy, fit a model and promote it.

    The share of fraud decides about the strategy; a model that the gate rejects is stored, but not promoted.
    """
    from pipeline.cli.output import progress_bar
    from pipeline.services.runs.training import TrainRequest
    from pipeline.services.runs.training import train as run_training

    with context.session() as session, progress_bar() as bar:
        summary = run_training(session, TrainRequest(_as_of(as_of, session.config), shadow), bar)
    if summary.failures:
        _print_summary(summary)
    ended = (
        "fraudwatch strategy show says why"
        if summary.trainings
        else "another process has trained for this date"
    )
    click.echo(f"run {summary.run_id} has ended: {ended}")


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
    """Do everything that is due.

    Trainings, windows and late arrivals; then notifications are sent, and challengers run.
    """
    from pipeline.cli.output import progress_bar
    from pipeline.services.runs.backfill import unscored_history
    from pipeline.services.runs.tick import ChallengerRun, StepFailed, TickRequest, run_tick

    failures: list[StepFailed | ChallengerRun] = []

    def report(event: "TickEvent") -> None:
        _print_event(event)
        if isinstance(event, StepFailed | ChallengerRun):
            failures.append(event)

    with context.session() as session, progress_bar() as bar:
        request = TickRequest(as_of=_as_of(as_of, session.config))
        summary = run_tick(session, request, report, progress=bar)
        older = unscored_history(session)
    if older is not None:
        text = f"transactions from {older.start:%Y-%m-%d} on are older than the schedule and have no score"
        click.echo(f"{text}: {_backfill_command(older)} scores them", err=True)
    _print_summary(summary, [failure.bug for failure in failures if failure.bug is not None])
    if any(isinstance(failure, StepFailed) for failure in failures):
        sys.exit(1)


def _print_event(event: "TickEvent") -> None:
    """Print what happens beside the run itself, which is summarised at the end."""
    from pipeline.cli.monitoring.notify import delivery_text
    from pipeline.services.runs.tick import ChallengerRetired, ChallengerRun, Delivery, StepFailed

    if isinstance(event, Delivery) and (event.sent or event.errors):
        click.echo(delivery_text(event), err=True)
    elif isinstance(event, ChallengerRun):
        click.echo(challenger_text(event))
    elif isinstance(event, StepFailed):
        click.echo(f"{event.name} failed: {event.error}", err=True)
    elif isinstance(event, ChallengerRetired):
        click.echo(f"challenger {event.name} is no longer configured and has been retired")


@click.command(
    cls=Command,
    epilog="""
    fraudwatch score payments.jsonl
    echo '{"transaction_id": "t1", "event_time": "2026-03-02T12:00:00Z", "amount": 99, …}' | fraudwatch score -
    fraudwatch score payments.jsonl --store --format json
    """,
)
@click.argument("file", type=click.File("rb"))
@click.option("--store", is_flag=True, help="Store the payments and their scores, each once.")
@output_options
@click.pass_obj
def score(context: CliContext, file: Any, store: bool, output_format: str, output: Path | None) -> None:
    """Score payments now, each as if it had just arrived.

    FILE has one JSON object a line, - is standard input; at most 1,000 payments. Nothing is written without --store. JSON has all that
    the API answers of each payment, with every reason.

    Exit codes: 0, 1 if every payment was rejected or the database cannot be used, 2 if FILE or the configuration is wrong.
    """
    from pipeline.cli.output import write_rows
    from pipeline.services.runs.scoring import PAYMENT_FIELDS, ScoreRequest
    from pipeline.services.runs.scoring import score as score_payments
    from pipeline.services.scorer import open_scorer

    request = ScoreRequest(_payments(file), store)
    with context.session() as session:
        if store:
            with open_scorer(session) as scorer:
                answer = score_payments(session, request, scorer)
        else:
            answer = score_payments(session, request)
    if answer.is_stale:
        newest = (
            "nothing" if answer.history_through is None else f"{answer.history_through:%Y-%m-%d %H:%M} UTC"
        )
        click.echo(f"scores miss what has happened since: history is stored through {newest}", err=True)
    for unknown in answer.unknown_fields:
        meant = f", did you mean {unknown.field}?" if unknown.field else ""
        click.echo(f'no field is called "{unknown.name}", so it was left out{meant}', err=True)
    if output_format == "json":
        write_rows(answer.payments, PAYMENT_FIELDS, output_format, output, "no payment")
    else:
        _write_scores(answer, output_format, output)
    if all(payment.status == "rejected" for payment in answer.payments):
        sys.exit(1)


def _write_scores(answer: "ScoreAnswer", output_format: str, output: Path | None) -> None:
    """A line for each payment, with the strongest reason."""
    from pipeline.cli.output import score_cell, write_rows

    rows = (
        vars(payment)
        | {"score": score_cell(payment.score, output_format)}
        | {"first_reason": payment.error or next((r.text for r in payment.reasons), None)}
        for payment in answer.payments
    )
    write_rows(rows, SCORE_COLUMNS, output_format, output, "no payment")


def _payments(lines: Any) -> list[dict[str, Any]]:
    """Payments from JSON Lines."""
    payments = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            payment = json.loads(line)
        except (ValueError, RecursionError):
            payment = None
        if not isinstance(payment, dict):
            raise click.UsageError(f"line {number} is no JSON object: write one payment a line")
        payments.append(payment)
    return payments


@click.command(
    cls=Command,
    epilog="""
    fraudwatch backfill --from 2026-02-01 --to 2026-04-01
    fraudwatch backfill --from 2026-02-01 --to 2026-04-01 --workers 4
    fraudwatch backfill --from 2026-02-01 --to 2026-04-01 --scheduler tcp://10.0.0.5:8786
    fraudwatch backfill --from 2026-02-01 --to 2026-04-01 --rescore --policy cheaper
    """,
)
@click.option("--from", "start", type=InstantParam(), required=True, help="First day to score.")
@click.option("--to", "end", type=InstantParam(), required=True, help="The day after the last one.")
@click.option(
    "--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Number of processes."
)
@click.option("--scheduler", metavar="ADDRESS", help="Score windows on the workers of this Dask scheduler.")
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
    scheduler: str | None,
    rescore: bool,
    policy: str | None,
    model_id: int | None,
) -> None:
    """Score past windows as the schedule would have done.

    Trainings are included. A backfill is idempotent and may be interrupted: transactions keep their scores. Challengers are
    backfilled after live. --rescore backtests the current config under a policy of its own; compare it with fraudwatch
    policies diff.
    """
    from pipeline.cli.output import progress_bar
    from pipeline.services.models.models import list_models
    from pipeline.services.runs.backfill import BackfillRequest, stored_span
    from pipeline.services.runs.backfill import backfill as run_backfill

    if scheduler and workers > 1:
        raise click.UsageError("--workers are processes of this machine; the scheduler has its own")
    if rescore != (policy is not None):
        raise click.UsageError("--rescore and --policy go together, for example --rescore --policy try")
    with context.session() as session, progress_bar() as bar:
        zone = session.config.schedule.timezone
        request = BackfillRequest(
            to_utc(start, zone), to_utc(end, zone), workers, scheduler, policy, model_id
        )
        result = run_backfill(session, request, bar)
        stored = stored_span(session)
        candidates = list_models(session, policy or "live").items if result.summary.no_model else ()
    if (hint := _remedy_text(request, result.summary, stored, candidates)) is not None:
        click.echo(hint, err=True)
    for challenger in result.challengers:
        click.echo(challenger_text(challenger))
    _print_summary(result.summary)


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
    """Do what is due, for months.

    It reads feeds, trains, scores and flags whenever something is due.

    A second daemon on the same database stands by and takes over when the first one dies. SIGTERM finishes the
    current step and stops; SIGHUP reloads the config, and if the new one is invalid, the old one stays in force.
    """
    from pipeline import logs
    from pipeline.daemon.daemon import Daemon, serve

    logs.configure(log_format)
    running = Daemon(context.load_config, by=context.actor, clock=now)
    if not once:
        sys.exit(serve(running))
    try:
        _print_summary(running.once())
    finally:
        running.close()


@click.command(
    cls=Command,
    epilog="""
    fraudwatch serve
    fraudwatch serve --log json
    """,
)
@click.option(
    "--log", "log_format", type=click.Choice(["console", "json"]), default="console", show_default=True
)
@click.pass_obj
def serve(context: CliContext, log_format: Any) -> None:
    """Answer requests of programs and browsers.

    The console is on web.host and web.port, the API there under /api/v1; beside it /healthz, /readyz and /metrics. It runs beside the daemon, which
    does what is due. Everybody needs a token or a log-in. SIGTERM ends it once it has answered.
    """
    try:
        from pipeline.api.server import serve as serve_api
        from pipeline.web.console import CONSOLE
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"serve needs {error.name}, which is not installed: pip install 'fraudwatch[web]'"
        ) from error
    from pipeline import logs

    logs.configure(log_format)
    serve_api(context.load_config(), CONSOLE)


def _remedy_text(
    request: "BackfillRequest",
    summary: "RunSummary",
    stored: "StoredSpan | None",
    candidates: "Sequence[ListedModel]",
) -> str | None:
    """What to type if a backfill scored nothing because of its span; None if it did its work."""
    if stored is None or summary.scored:
        return None
    if request.end <= stored.start or request.start >= stored.end:
        cause = "the span has no transactions"
    elif rejected := [model for model in candidates if model.verdict == "rejected"]:
        newest = rejected[0]
        return f"candidate {newest.model_id} was rejected: {newest.reason} Then repeat this command"
    elif summary.no_model:
        cause = "no model could be trained before the span"
    else:
        return None
    days = f"{stored.start:%Y-%m-%d} to {stored.end:%Y-%m-%d}"
    return f"{cause}; stored are {days}: {_backfill_command(stored)} scores what comes after a first training"


def _backfill_command(span: "StoredSpan") -> str:
    utc = "T00:00:00Z"  # whatever schedule.timezone is
    return f"fraudwatch backfill --from {span.start:%Y-%m-%d}{utc} --to {span.end:%Y-%m-%d}{utc}"


def _as_of(value: Any, config: "Config") -> "datetime | None":
    return to_utc(value, config.schedule.timezone) if value else None


def _print_summary(summary: "RunSummary", bugs: "Sequence[Exception]" = ()) -> None:
    """Print what a run did; the first bug in it is raised."""
    click.echo(summary_text(summary))
    for bug in (*summary.bugs, *bugs):
        raise bug
    if summary.failures:
        sys.exit(1)


def summary_text(summary: "RunSummary") -> str:
    """What a run did, in one sentence."""
    from pipeline.number_text import counted

    if not summary.run_id:
        return "nothing was due; fraudwatch doctor shows what is stored and what is missing"
    parts = [
        f"{counted(summary.scored, 'transaction')} scored in {counted(summary.windows, 'window')}, {summary.flagged:,} flagged"
    ]
    counts = (
        (summary.late, "of them arrived late"),
        (summary.already_scored, "had been scored by another run in the meantime"),
        (summary.no_model, "are older than the first model and were left out"),
        (summary.windows_left, "windows are left for the next run"),
    )
    parts += [f"{n:,} {text}" for n, text in counts if n]
    if summary.scored >= MANY and summary.flagged > summary.scored / 2:
        parts.append(
            "most of them were flagged, far more than alerts.per_day means to: they are unlike the payments that the model learned "
            "from, or a rule fits them (fraudwatch drift, fraudwatch rules list)"
        )
    if summary.stopped:
        parts.append("stopped on request; the next run continues from here")
    if not (any(n for n, _ in counts) or summary.scored or summary.trainings or summary.failures):
        parts.append(f"run {summary.run_id} found no transaction without a score")
    return "; ".join(parts + summary.failures)


def challenger_text(run: "ChallengerRun") -> str:
    """The result of a challenger's run in one sentence."""
    if run.summary is None:
        return f"challenger {run.name} failed: {run.error}"
    return f"challenger {run.name}: {summary_text(run.summary)}"


MANY = 100  # scored transactions of a run, from which on a share of them says something
SCORE_COLUMNS = [
    "transaction_id", "status", "score", "fraud_probability", "expected_loss", "flagged", "channel", "first_reason",
]  # fmt: skip
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
    from pipeline.services.runs.runs import list_runs as run_page

    with context.session() as session:
        listed = every(run_page, session, policy, limit=limit)
        message = "nothing has run yet: fraudwatch run, or fraudwatch backfill"
        write_rows(map(vars, listed), RUN_COLUMNS, output_format, output, message)


@click.command("gaps", cls=Command, epilog="fraudwatch gaps\nfraudwatch gaps --format json --limit 5")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True)
@policy_option
@output_options
@click.pass_obj
def list_gaps(context: CliContext, limit: int, policy: str, output_format: str, output: Path | None) -> None:
    """List due steps that are not done, with remedies."""
    from pipeline.cli.output import write_rows
    from pipeline.rendering.text import GAP_REMEDIES
    from pipeline.services.pages import every
    from pipeline.services.runs.runs import list_gaps as gap_page

    with context.session() as session:
        listed = every(gap_page, session, policy, limit=limit)
        rows = (vars(gap) | {"remedy": GAP_REMEDIES[gap.remedy].format(run=gap.at_work_by)} for gap in listed)
        write_rows(rows, GAP_COLUMNS, output_format, output, "no gaps: every due step is done")

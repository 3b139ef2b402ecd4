"""The command `doctor`: the check-up of the monitor, a sentence and a remedy for each check."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.data import stale_rate_text, waiting_text
from pipeline.cli.options import CliContext, Command, policy_option

if TYPE_CHECKING:
    from pipeline.ingest.currencies.currency_rates import StaleRate
    from pipeline.services.data.ingest import WaitingRecord
    from pipeline.services.monitoring import doctor as checks
    from pipeline.services.monitoring.doctor import CheckResult

TRAIN = "fraudwatch run or fraudwatch backfill"
TITLES = {
    "newest_training": "newest training",
    "schedule": "schedule starts",
    "steps": "windows",
    "unscored": "payments",
    "ticks": "next ticks",
    "model_key": "model key",
    "waiting_rows": "waiting rows",
    "currency_rates": "currency rates",
}


@click.command(
    cls=Command, epilog="fraudwatch doctor\nfraudwatch doctor --policy cautious\nfraudwatch doctor --repair"
)
@policy_option
@click.option(
    "--repair",
    is_flag=True,
    help="Compute cases of the queue anew first, if they are not those of the flags.",
)
@click.pass_obj
def doctor(context: CliContext, policy: str, repair: bool) -> None:
    """Check everything, and say why nothing was flagged.

    Exit code 1 if a check fails.
    """
    from pipeline.services.monitoring import doctor as checks

    with context.session() as session:
        if repair:
            checks.repair(session)
        results = checks.check(session, policy)
    for result in results:
        click.echo(result_line(result))
    if any(result.failed for result in results):
        raise SystemExit(1)


def result_line(result: "CheckResult") -> str:
    """The result of a check as one line: a mark, the subject, what was found, and what to do about it."""
    from pipeline.sanitize import for_terminal

    text = SENTENCES[result.subject](result.code, result.facts)
    return f"{'✗' if result.failed else '✓'} {_title(result)}: {for_terminal(text)}"


def _title(result: "CheckResult") -> str:
    from pipeline.services.monitoring.doctor import ChallengerFacts, FailureFacts

    if isinstance(result.facts, FailureFacts):
        return result.facts.name
    if isinstance(result.facts, ChallengerFacts):
        return f"challenger {result.facts.policy}"
    return TITLES.get(result.subject, result.subject)


def _config(_code: str, facts: "checks.ConfigFacts") -> str:
    return facts.origin


def _database(code: str, facts: "checks.DatabaseFacts") -> str:
    schema = "schema up to date"
    if code == "newer":
        schema = (
            f"its schema is {facts.version}, this program's {facts.program_version}: it can be read, and nothing is written; "
            "install the newer version of fraudwatch"
        )
    return f"{facts.address}, monitor {facts.monitor}, {schema}"


def _erased(_code: str, facts: "checks.OverwriteFacts") -> str:
    return (
        f"the file has had old bytes of erased values since {_utc_text(facts.since)}, because another program reads it: end that "
        "program (fuser FILE names it), then fraudwatch prune"
    )


def _clock(code: str, facts: "checks.ClockFacts") -> str:
    time = facts.now.astimezone().isoformat(timespec="seconds")
    if code == "behind_data":
        return f"{time}, but the newest transaction is more than a day later: set the clock"
    return time


def _transactions(code: str, facts: "checks.TransactionFacts") -> str:
    from pipeline.number_text import counted

    if code == "none_stored":
        return "none stored: run fraudwatch ingest transactions FILE first"
    rejected = f", {counted(facts.rejected, 'rejected row')} (see rejected_rows)" if facts.rejected else ""
    return f"{facts.stored:,}, newest {_utc_text(facts.newest)}{rejected}"


def _labels(code: str, facts: "checks.LabelFacts") -> str:
    from pipeline.number_text import counted

    if code == "none_stored":
        return "none: outlier detection works without labels, classification needs them"
    unknown = longest = ""
    if facts.longest_maturity > facts.maturity:
        longest = f", or up to {facts.longest_maturity.days} where labels.maturity_by says so"
    if facts.without_transaction:
        unknown = f"; {facts.without_transaction:,} are for ids that no transaction has: compare the ids in both files"
    return (
        f"{facts.stored:,} ({facts.frauds:,} fraud), newest known {_utc_text(facts.newest)}; "
        f"a transaction without a label counts as genuine after {counted(facts.maturity.days, 'day')}{longest}{unknown}"
    )


def _model_key(_code: str, facts: "checks.ModelKeyFacts") -> str:
    return facts.error


def _entity(_code: str, facts: "checks.EntityFacts") -> str:
    from pipeline.number_text import percent

    return (
        f"{facts.value!r} is the {facts.column} of {percent(facts.share)} of the newest transactions: if it stands for a missing value, "
        "make it empty in the data, or it counts as one customer"
    )


def _waiting(_code: str, facts: "WaitingRecord") -> str:
    return waiting_text(facts)


def _currency_rates(_code: str, facts: "StaleRate | checks.RatesFileFacts") -> str:
    from pipeline.services.monitoring.doctor import RatesFileFacts

    return facts.error if isinstance(facts, RatesFileFacts) else stale_rate_text(facts)


def _model(code: str, facts: "checks.ModelFacts") -> str:
    if code == "promoted":
        return f"{facts.promotions:,} promoted, strategy {facts.strategy}"
    if code == "training_failed":
        return f"none (cold start); the last training failed: {facts.training_error}: {TRAIN}"
    if code == "withdrawn":
        return f"none; {facts.withdrawn:,} promotions were withdrawn with their runs: {TRAIN}"
    if code == "not_promoted":
        return "none (cold start); no candidate was promoted"
    return f"none (cold start); no training has run yet: {TRAIN}"


def _newest_training(code: str, facts: "checks.TrainingFacts") -> str:
    remedy = "it will be retried" if facts.retry_at else "fix the cause, then fraudwatch train"
    texts = {
        "training_failed": f"no new model: {facts.error}; the previous model keeps scoring; {remedy}",
        "candidate_rejected": f"candidate {facts.candidate} was rejected. {facts.gate_sentence}",
        "nothing_new": "no new transactions, so the previous model stays",
        "promoted": "its model was promoted",
    }
    by_hand = facts.overruled and code in ("training_failed", "candidate_rejected")
    since = "; a model was promoted by hand since" if by_hand else ""
    return f"{facts.date:%Y-%m-%d}: {texts[code]}{since}"


def _schedule(_code: str, facts: "checks.ScheduleFacts") -> str:
    if facts.starts_at is None:
        return "not set yet (the first fraudwatch run sets it)"
    return facts.starts_at.astimezone().isoformat(timespec="minutes")


def _ticks(code: str, facts: "checks.TickFacts") -> str:
    due = ", ".join(f"{time:%a %Y-%m-%d %H:%M:%S %Z}" for time in facts.next)
    ended = "no daemon has run yet" if code == "none_yet" else f"the last one ended {_utc_text(facts.last)}"
    return f"{due}, counted from now; {ended}"


def _failing(_code: str, facts: "checks.FailureFacts") -> str:
    times = f"{facts.failures:,} times" if facts.failures > 1 else "once"
    paused = "" if facts.worked_at is None else f", and worked for a while until {_utc_text(facts.worked_at)}"
    return f"fails since {_utc_text(facts.since)}{paused}, {times} in a row: {facts.error}"


def _unscored(code: str, facts: "checks.UnscoredFacts") -> str:
    why = {
        "interrupted": "a backfill was interrupted",
        "left_out": "the newest backfill ends before the schedule begins",
    }[code]
    span = f"--from {facts.start:%Y-%m-%dT%H:%M}Z --to {facts.end:%Y-%m-%dT%H:%M}Z"
    return f"{facts.payments:,} are not scored and will not be by themselves, because {why}: fraudwatch backfill {span}"


def _steps(_code: str, facts: "checks.StepFacts") -> str:
    from pipeline.number_text import counted

    windows = f", {facts.windows_open:,} not done" if facts.windows_open else ""
    others = f"; {counted(facts.others_open, 'other step')} not done" if facts.others_open else ""
    listed = " (fraudwatch gaps)" if windows or others else ""
    return f"{facts.windows_done:,} scored{windows}{others}{listed}"


def _queue(_code: str, facts: "checks.QueueFacts") -> str:
    from pipeline.number_text import counted

    return f"{counted(facts.waiting, 'transaction is', 'transactions are')} waiting for the next run"


def _flags(code: str, facts: "checks.ScoreFacts") -> str:
    from pipeline.number_text import counted

    if code == "nothing_scored":
        return f"none, because nothing has been scored: {TRAIN}"
    if code == "all_below_thresholds":
        return f"{counted(facts.scored, 'transaction')} scored, all below the thresholds"
    others = {"closed without opinion": facts.closed, "expired": facts.expired}
    listed = "".join(f", {n:,} {name}" for name, n in others.items() if n)
    return f"{facts.flagged:,} of {facts.scored:,} scored, {facts.open:,} open{listed}"


def _scores(_code: str, facts: "checks.ScoreFacts") -> str:
    from pipeline.number_text import counted

    return f"{counted(facts.scored, 'transaction')} scored; only live raises flags"


def _cases(code: str, facts: "checks.CaseFacts") -> str:
    if code == "as_flags":
        return f"{facts.stored:,} with an open flag, as the flags say"
    return (
        f"{facts.wrong:,} of {facts.stored:,} are not what the flags say, nor are {facts.wrong_counts:,} counts of them: "
        "fraudwatch doctor --repair computes them anew"
    )


def _answers(_code: str, facts: "checks.OverdueFacts") -> str:
    from pipeline.number_text import counted

    return f"{counted(facts.cases, 'case')} overdue: answers are due within {facts.within} (alerts.answer_within)"


def _messages(code: str, facts: "checks.MessageFacts") -> str:
    if code == "no_receiver":
        return "no receiver: notify.urls is empty, and there is no [webhook.NAME]"
    counts = f"{facts.receivers:,} receivers, {facts.sent:,} sent, {facts.waiting:,} waiting"
    if facts.failed:
        remedy = "fraudwatch notify list --waiting shows why, fraudwatch notify retry sends them again"
        return f"{counts}, {facts.failed:,} failed: {remedy}"
    return counts


def _challenger(_code: str, facts: "checks.ChallengerFacts") -> str:
    trained = f"strategy {facts.strategy}" if facts.strategy else "no model yet"
    return f"{facts.scored:,} scored, {facts.waiting:,} waiting, {facts.steps_open:,} not done, {trained}: fraudwatch doctor --policy {facts.policy}"


SENTENCES: Mapping[str, Callable[[str, Any], str]] = {
    "config": _config, "database": _database, "erased": _erased, "model_key": _model_key, "clock": _clock, "transactions": _transactions,
    "entities": _entity, "waiting_rows": _waiting, "currency_rates": _currency_rates, "labels": _labels,
    "model": _model, "newest_training": _newest_training, "schedule": _schedule, "ticks": _ticks, "failing": _failing, "steps": _steps, "unscored": _unscored, "queue": _queue,
    "flags": _flags, "scores": _scores, "cases": _cases, "answers": _answers, "messages": _messages, "challenger": _challenger,
}  # fmt: skip


def _utc_text(moment: datetime | None) -> str:
    return "unknown" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S} UTC"

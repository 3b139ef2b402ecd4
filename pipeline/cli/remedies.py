"""The commands and options that help with an error, by its code."""

COMMANDS = {
    "batch_loading": "fraudwatch export batches -o batches.csv",
    "batch_withdrawn": "fraudwatch export batches -o batches.csv",
    "damaged_model": "fraudwatch train",
    "held": "fraudwatch hold end N",
    "hold_ended": "fraudwatch hold list",
    "mute_ended": "fraudwatch mutes list",
    "no_input": "fraudwatch ingest transactions FILE, or --from-sql NAME",
    "no_known_at": "--known-after 7d",
    "no_mature_span": "fraudwatch doctor",
    "no_previous_model": "fraudwatch models list",
    "no_such_chart": "fraudwatch report --list",
    "no_transactions": "fraudwatch ingest transactions FILE",
    "nothing_scored": "fraudwatch run",
    "past_expiry": "--for 7d, or --until 2026-12-31",
    "past_promotion": "fraudwatch backfill --rescore --policy NAME --model N",
    "rule_ended": "fraudwatch rules list",
    "schema_out_of_date": "fraudwatch init",
    "schema_too_old": "fraudwatch init",
    "span_not_known_yet": "fraudwatch undo batch N, then fraudwatch ingest transactions --history",
    "token_ended": "fraudwatch tokens list",
    "undo_interrupted": "fraudwatch undo batch N",
    "unknown_batch": "fraudwatch export batches -o batches.csv",
    "unknown_choice": "fraudwatch strategy list",
    "unknown_comparison": "fraudwatch comparisons list",
    "unknown_feature": "fraudwatch flags list --format json",
    "unknown_flag": "fraudwatch flags list",
    "unknown_hold": "fraudwatch hold list",
    "unknown_message": "fraudwatch notify list",
    "unknown_model": "fraudwatch models list",
    "unknown_mute": "fraudwatch mutes list",
    "unknown_name": "fraudwatch rules names",
    "unknown_rule": "fraudwatch rules list",
    "unknown_run": "fraudwatch runs",
    "unknown_token": "fraudwatch tokens list",
    "unknown_user": "fraudwatch users list",
    "user_disabled": "fraudwatch users list",
    "user_not_disabled": "fraudwatch users list",
}


def with_command(error: Exception) -> str:
    """An expected error with its remedy and, where there is one, the command that helps."""
    command = COMMANDS.get(getattr(error, "code", ""))
    return f"{error} ({command})" if command else str(error)

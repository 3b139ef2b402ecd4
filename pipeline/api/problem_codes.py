"""
Every error that the API answers with, by its code: the status, a title, and what to do.

A code is stable: it is that of the error beneath (`pipeline.errors`, `storage.errors`, `detectors.base`) or one of the API itself.
`docs/problems.md` is made from this table, so that the `type` of an answer is always a place of a page.
"""

from dataclasses import dataclass

PAGE = "/docs/problems.md"  # served by the API itself, and a file of the repository


@dataclass(frozen=True)
class ProblemCode:
    """The HTTP status of a code, its title, and what a caller can do."""

    status: int
    title: str
    remedy: str


def _table(status: int, **titles: tuple[str, str]) -> dict[str, ProblemCode]:
    return {code: ProblemCode(status, title, remedy) for code, (title, remedy) in titles.items()}


OPERATOR = "An operator puts that right; the log of the server and `fraudwatch doctor` say more."
WAIT = "Repeat the request after the seconds of `Retry-After`."
LISTS = "List what there is, and take an id from there."
NOTHING_WRITTEN = "Nothing was written. "

PROBLEMS: dict[str, ProblemCode] = {
    # The request as such
    **_table(
        400,
        bad_request=("The request cannot be read", "Send HTTP and JSON in UTF-8; `detail` says what is wrong."),
        bad_cursor=("The cursor is not one of this list", "Begin again without one; a cursor is bound to the path and the filters of its list."),
        bad_idempotency_key=("The Idempotency-Key is none", "Send 1 to 255 printable ASCII characters."),
    ),
    **_table(
        401,
        unauthenticated=("Nobody is logged in", "Send `Authorization: Bearer TOKEN`, or log in."),
        not_authenticated=("It is not known who asks", "Log in, or send a token that is in force."),
        wrong_password=("The name or the password is wrong", "Which of them is not said."),
        no_session=("There is no such session", "Log in."),
        session_ended=("The session has ended", "Log in again."),
        bad_log_in=("The log-in at the identity provider does not hold", "Log in again, with one browser and within 10 minutes."),
        role_unconfirmed=("The identity provider has not confirmed the user's groups", "Log in again."),
        user_changed=("The user has just been changed", "Log in again."),
        no_token=("There is no such token", "Send the whole secret of a token of this monitor."),
        token_expired=("The token has expired", "Issue another."),
        token_revoked=("The token was revoked", "Issue another."),
    ),
    **_table(
        403,
        not_allowed=("The role may not do this", "`detail` names the permission; an administrator gives roles."),
        four_eyes=("This needs two people", "Another person must ask or decide; `detail` says who may."),
        passwords_off=("Nobody logs in by a password here", "Log in at the identity provider."),
        no_role=("None of the user's groups has a role", "`oidc.roles` gives groups their roles."),
        no_user_name=("The identity provider gives no usable name", "`oidc.user_name` names the claim."),
        csrf=("The request does not come from a page of this server", "A session of a browser sends its `X-CSRF-Token` with every write."),
    ),
    **_table(
        404,
        no_route=("There is no such address", "`/api/v1/openapi.json` lists all addresses."),
        no_provider=("Nobody logs in at an identity provider here", "`oidc.issuer` names it."),
    ),
    **_table(405, method_not_allowed=("The address has no such method", "The header `Allow` lists those that it has.")),
    **_table(408, body_too_slow=("The request took too long to arrive", "Send the whole body at once.")),
    **_table(413, body_too_large=("The request is too large", "Send fewer rows at once; `detail` says how many bytes are accepted.")),
    **_table(415, unsupported_media_type=("The body is not JSON", "Send `Content-Type: application/json`.")),
    **_table(421, unknown_host=("This server is not that host", "Use a name of `web.hosts`, or add it there.")),
    **_table(
        422,
        payment_count=("A request scores 1 to 1,000 payments", "Send several requests."),
        invalid_request=("A value is not valid", "`errors` has a pointer to each value and what is wrong with it."),
        idempotency_key_reused=("The Idempotency-Key belongs to another request", NOTHING_WRITTEN + "Use a new key for a new request."),
        repeated_transaction=("A transaction is named twice in one batch", "Send one row for each transaction."),
    ),
    **_table(
        429,
        too_many_requests=("Too many requests", WAIT),
        too_many_log_ins=("Too many log-ins have failed", "Wait 15 minutes."),
    ),
    **_table(
        500,
        scheduler=("A scheduler of a backfill cannot be used", OPERATOR),
        bug=("The server has a bug", "Its log has a traceback with the `request_id`; please report it."),
        error=("The request failed", OPERATOR),
        storage=("The database refused", OPERATOR),
        damaged=("Stored bytes are not those that were written", OPERATOR),
        damaged_model=("A stored model is damaged", "Promote another model, or train a new one."),
        artifact=("A stored model cannot be opened", "Promote another model, or train a new one."),
        not_fitted=("A model is not fitted", OPERATOR),
        detector=("A model cannot score these data", OPERATOR),
        config=("The configuration cannot be used", OPERATOR),
        no_hash_key=("The key of schema.hash is missing", OPERATOR),
        no_model_key=("The key that seals models is missing", OPERATOR),
        no_secret=("A secret of the configuration is missing", OPERATOR),
        no_source=("The configuration has no such source", OPERATOR),
        unknown_key=("The configuration has no such key", OPERATOR),
        no_config=("There is no configuration", OPERATOR),
        bad_config_file=("The configuration cannot be read", OPERATOR),
        other_issuer=("The identity provider calls itself otherwise", OPERATOR),
        no_web=("A library of the extra web is missing", OPERATOR),
    ),
    **_table(
        503,
        timeout=("The request took too long", "Ask for less at once. A write may have been done all the same."),
        out_of_memory=("The server has not enough memory", "Ask for less at once."),
        overloaded=("The server is at work on too many requests", WAIT),
        busy=("Another process is at work", NOTHING_WRITTEN + WAIT),
        step_running=("A step is at work", WAIT),
        step_taken=("Another worker has taken the step over", WAIT),
        audit_behind=("The audit trail cannot be written", "People's data are not shown without a trace. " + WAIT),
        undo_interrupted=("The undo of a batch was interrupted", "Repeat it, then this request."),
        provider_unreachable=("The identity provider does not answer", WAIT),
        unreachable=("The database does not answer", WAIT),
        ping_failed=("The monitoring service does not answer", WAIT),
        cancelled=("The database cancelled a query", WAIT),
        disk_full=("The disk of the database is full", OPERATOR),
        forbidden=("The database refuses this user", OPERATOR),
        read_only=("The database is read-only", OPERATOR),
        schema_out_of_date=("The database needs an upgrade", OPERATOR),
        schema_too_old=("The schema is too old to be upgraded", OPERATOR),
        unsupported_schema=("The schema is not one of this version", OPERATOR),
        newer_schema=("The schema is newer than this server, which may only read", OPERATOR),
        wrong_monitor=("The database belongs to another monitor", OPERATOR),
        other_program=("The database belongs to another program", OPERATOR),
        other_hash_key=("Values were hashed by another key", OPERATOR),
    ),
    # What is not there
    **_table(
        404,
        unknown=("There is no such thing", LISTS),
        unknown_flag=("There is no flag on this transaction", LISTS),
        unknown_transaction=("There is no such transaction", "Check the id; a transaction is there once its batch is."),
        unknown_batch=("There is no such batch", LISTS),
        batch_loading=("The batch is still being loaded", "Wait until it is done."),
        batch_withdrawn=("The batch was undone before", LISTS),
        unknown_run=("There is no such run", LISTS),
        unknown_model=("There is no such model", LISTS),
        unknown_choice=("There is no such choice of a strategy", LISTS),
        unknown_comparison=("There is no such comparison", LISTS),
        unknown_policy=("There is no such policy", "`live`, a challenger, or the policy of a backfill that rescored."),
        unknown_metric=("There is no such metric", LISTS),
        unknown_mute=("There is no such mute", LISTS),
        unknown_rule=("There is no such rule", LISTS),
        unknown_hold=("There is no such hold", LISTS),
        unknown_message=("There is no such message", LISTS),
        unknown_table=("There is no such table or view", "`detail` lists them."),
        unknown_entity=("Nothing is stored of this value", "Check the column and the value."),
        unknown_user=("There is no such user", LISTS),
        unknown_token=("There is no such token", LISTS),
        unknown_job=("There is no such job", "`/api/v1/runs` has the runs of all jobs; a server forgets the jobs themselves when it ends."),
        unknown_approval=("Nobody asked for this", LISTS),
        no_flag=("There is no flag to close", "Only a flag can be closed without opinion."),
        no_verdict=("There is no verdict to undo", "List the verdicts of the payment."),
        no_label=("There is no such label to retract", "List the labels of the payment."),
    ),
    # What contradicts what is stored
    **_table(
        409,
        jobs_at_work=("As many jobs as can run at once are at work", NOTHING_WRITTEN + "Wait until one of `/api/v1/jobs` has ended, or stop one."),
        refused=("The database refused", NOTHING_WRITTEN + "`detail` says why."),
        seen_another=("Somebody has answered since", NOTHING_WRITTEN + "`current` says who answered what; look at it, then send its `version` as `if_seen`."),
        answered=("Somebody has answered", "Undo the verdict first."),
        claimed=("Somebody else works on the flag", "`by` says who, and `until` how long at most; take another one, or talk to them."),
        overrules=("Another source reported fraud", "Add a note that says why the payment is genuine all the same."),
        approval_decided=("It was decided already", LISTS),
        approval_expired=("The request for an approval has ended", "Ask again."),
        user_name_taken=("There is a user of this name", "Choose another name."),
        user_disabled=("The user is disabled already", LISTS),
        user_not_disabled=("The user is not disabled", LISTS),
        token_ended=("The token was revoked before", LISTS),
        mute_ended=("The mute has ended", LISTS),
        rule_ended=("The rule has ended", LISTS),
        hold_ended=("The hold has ended", LISTS),
        held=("A hold keeps the value", "End the hold first."),
        no_previous_model=("There is no model to go back to", "Promote one by its number."),
        not_ready=("There is not enough data yet", "More data or time ends it."),
        no_transactions=("No transaction is stored yet", "Send transactions first."),
        no_mature_span=("No label is mature yet", "More time ends it."),
        nothing_scored=("Nothing has been scored yet", "Wait for the first window."),
        nothing_to_compare=("There is nothing to compare", "More labels end it."),
        events_not_scored=("Payments of this monitor are made of several events", "Send them as transactions; they are scored with their window."),
        too_few_transactions=("There are too few transactions", "More data ends it."),
        span_not_known_yet=("The span is recorded as arriving later", "Load it as history."),
        chart_without_data=("There are no data for the chart", "Wait for the first window."),
    ),
    # Values that cannot be used
    **_table(
        422,
        input=("A value cannot be used", "`detail` says why."),
        too_many_rows=("There are too many rows", "Send at most 1,000 at once."),
        bad_handle=("This is no handle of an entity", "`POST /api/v1/entities` gives the handle of a value."),
        bad_expiry=("A token cannot end then", "Give an end within a year."),
        bad_limit=("A token allows at least one request a minute", "Give a larger number."),
        bad_token_name=("This is no name of a token", "Name the program in 1 to 100 visible characters."),
        bad_user_name=("This is no name of a user", "`detail` says why."),
        unknown_role=("There is no such role", "`detail` lists them."),
        weak_password=("The password is too easy to guess", "`detail` says why."),
        other_columns=("The files have different columns", "Read them one after the other."),
        no_folder=("There is no such folder", OPERATOR),
        not_writable=("The file cannot be written", OPERATOR),
        bad_transaction_id=("This is not the id of a transaction", "Ids have no null characters and no lone surrogates."),
        no_transaction=("No transaction is named", "Name at least one."),
        empty_span=("The span is empty", "Its start must be before its end, which is not part of it."),
        scheduler_address=("This is no address of a Dask scheduler", "Write tcp://HOST:PORT or tls://HOST:PORT."),
        future_time=("The time is in the future", "Give a time that has passed."),
        past_expiry=("The end is in the past", "Give a later end."),
        past_promotion=("The promotion would begin in the past", "Give a time from now on."),
        unknown_entity_column=("There is no such entity column", "`detail` lists them."),
        empty_entity=("The value of an entity is empty", "Give a value."),
        display_form=("The value is the display form of a hashed one", "Give the value itself."),
        unknown_channel=("There is no such channel", "`detail` lists them."),
        unknown_feature=("There is no such feature", "Take one from the reasons of a flag."),
        unknown_field=("There is no such field", "`detail` lists them."),
        unknown_fraud_type=("There is no such type of fraud", "`detail` lists those of labels.fraud_types."),
        type_without_fraud=("Only a fraud has a type", "Leave it out."),
        unknown_name=("The rule names no field or feature", "`/api/v1/rules/names` lists them."),
        bad_rule=("The rule cannot be read", "`detail` says where."),
        impossible_rule=("No payment can match the rule", "`detail` says why."),
        unknown_technique=("There is no such technique", "`detail` lists them."),
        unknown_challenger=("There is no such challenger", "`detail` lists them."),
        policy_is_live=("The live policy cannot be rescored", "Choose another name."),
        policy_is_challenger=("The policy is a challenger", "Choose another name."),
        model_without_rescore=("A model can be chosen only for rescoring", "Name a policy to rescore as."),
        nothing_accepted=("Every row was rejected", "`detail` says why."),
        missing_column=("A field is missing", "`detail` names it; it is one of [schema]."),
        repeated_column=("A field is there twice", "Send it once."),
        column_type=("A field has the wrong type", "`detail` names it."),
        bad_file=("The rows cannot be read", "`detail` says why."),
        not_text=("The rows are not text", "Send JSON in UTF-8."),
        plain_card_numbers=("A field holds whole card numbers", "Send tokens, or name the field in schema.hash."),
        unknown_ids=("No label is for a stored transaction", "Check the ids."),
        no_known_at=("It is not said when labels became known", "Send the field of schema.known_at."),
        other_kind=("The source holds something else", "Ingest it as what it holds."),
        unknown_format=("The format is unknown", "`detail` lists the formats."),
        too_large=("The file is too large", "Split it."),
        unreadable=("The file cannot be read", OPERATOR),
        no_input=("There is nothing to read", "Send at least one row."),
        no_file=("There is no such file", OPERATOR),
        bad_rates=("The rates cannot be read", "`detail` says why."),
        empty_file=("The file is empty", "Send at least one row."),
        file_type=("The type of the file is unknown", "`detail` lists them."),
        no_excel=("Excel files cannot be read here", OPERATOR),
        no_such_chart=("There is no such chart", "`detail` lists them."),
        no_such_option=("The chart has no such option", "`detail` lists them."),
        charts_not_installed=("The chart libraries are not installed", OPERATOR),
        no_receiver=("No receiver is configured", OPERATOR),
    ),
}  # fmt: skip


def problems_page() -> str:
    """The page `docs/problems.md`: every code with its status and what to do, in alphabetical order."""
    head = (
        "# Problems: what the API answers when it cannot do what was asked\n\n"
        "Every error is `application/problem+json` ([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)). `type` is an address of this\n"
        "page, which the server answers itself; `code` is the heading here and stable; `detail` names the thing and the value;\n"
        "`errors` has a JSON pointer to each value that is wrong; `request_id` is in the server's log. This page is made from\n"
        "`pipeline/api/problem_codes.py`.\n"
    )
    entries = (
        f"\n## {code}\n\n{problem.status}. {problem.title}. {problem.remedy}\n"
        for code, problem in sorted(PROBLEMS.items())
    )
    return head + "".join(entries)

"""Commands about who may use the console and the API: users with passwords and roles, and tokens of programs."""

import sys
from pathlib import Path
from typing import Any

import click

from pipeline.cli.options import CliContext, Group, expiry, expiry_options, output_options

USER_COLUMNS = ["name", "role", "has_password", "created_at", "by", "checked_at", "disabled_at"]
TOKEN_COLUMNS = [
    "token_id", "name", "role", "per_minute", "by", "created_at", "expires_at", "last_used_at", "revoked_at",
]  # fmt: skip
USER_ROLES = click.Choice(["viewer", "reviewer", "rule_author", "model_owner", "administrator", "auditor"])
TOKEN_ROLES = click.Choice([*USER_ROLES.choices, "scorer"])


@click.group(cls=Group)
def users() -> None:
    """Say who may log in to the console and the API.

    What each role may do is a table in docs/users.md. Passwords are asked for, or read from standard input.
    """


def read_password(name: str) -> str:
    """
    A new password: typed twice and not shown, or the first line of standard input.

    Raises
    ------
    click.UsageError
        Standard input is empty.
    """
    if sys.stdin.isatty():
        password: str = click.prompt(
            f"New password of {name}", hide_input=True, confirmation_prompt=True, err=True
        )
        return password
    line = sys.stdin.readline().rstrip("\r\n")
    if not line:
        raise click.UsageError("nobody can type a password here: write it to standard input")
    return line


@users.command(
    "add",
    epilog="""
    fraudwatch users add ann --role reviewer
    fraudwatch users add ann --role reviewer < password.txt
    """,
)
@click.argument("name")
@click.option("--role", required=True, type=USER_ROLES, help="What the user may do.")
@click.pass_obj
def add_user(context: CliContext, name: str, role: str) -> None:
    """Add a user who logs in by a password."""
    from pipeline.services.users.users import NewUser
    from pipeline.services.users.users import add_user as add

    with context.session() as session:
        user = add(session, NewUser(name, role, read_password(name)))
    click.echo(f"user {user.name} may log in as {user.role}")


@users.command("list", epilog="fraudwatch users list\nfraudwatch users list --format json")
@output_options
@click.pass_obj
def list_users(context: CliContext, output_format: str, output: Path | None) -> None:
    """List users with their roles, disabled ones too."""
    from pipeline.cli.output import write_rows
    from pipeline.services.users.users import list_users as stored_users

    with context.session() as session:
        rows = stored_users(session)
    write_rows(rows, USER_COLUMNS, output_format, output, "there is no user: see fraudwatch users add --help")


@users.command("disable", epilog="fraudwatch users disable ann")
@click.argument("name")
@click.pass_obj
def disable_user(context: CliContext, name: str) -> None:
    """Disable a user, whose sessions and tokens end at once."""
    from pipeline.services.users.users import disable_user as disable

    with context.session() as session:
        disable(session, name)
    click.echo(f"user {name} is disabled; fraudwatch users enable {name} undoes it")


@users.command("enable", epilog="fraudwatch users enable ann")
@click.argument("name")
@click.pass_obj
def enable_user(context: CliContext, name: str) -> None:
    """Let a disabled user log in again."""
    from pipeline.services.users.users import enable_user as enable

    with context.session() as session:
        enable(session, name)
    click.echo(f"user {name} may log in again")


@users.command(
    "password",
    epilog="""
    fraudwatch users password ann
    fraudwatch users password ann < password.txt
    """,
)
@click.argument("name")
@click.pass_obj
def set_password(context: CliContext, name: str) -> None:
    """Set a user's password, which ends the user's sessions."""
    from pipeline.services.users.users import set_password as set_

    with context.session() as session:
        set_(session, name, read_password(name))
    click.echo(f"user {name} has a new password, and must log in again")


@users.command("role", epilog="fraudwatch users role ann rule_author")
@click.argument("name")
@click.argument("role", type=USER_ROLES)
@click.pass_obj
def set_role(context: CliContext, name: str, role: str) -> None:
    """Give a user another role; sessions and tokens of the old one end."""
    from pipeline.services.users.users import set_role as set_

    with context.session() as session:
        set_(session, name, role)
    click.echo(f"user {name} has the role {role}, and must log in again if it is a new one")


@click.group(cls=Group)
def tokens() -> None:
    """Issue and revoke the tokens by which programs use the API."""


@tokens.command(
    "issue",
    epilog="""
    fraudwatch tokens issue shop --role scorer --for 90d
    fraudwatch tokens issue dashboard --role viewer --until 2026-12-31 --per-minute 60
    """,
)
@click.argument("name")
@click.option("--role", required=True, type=TOKEN_ROLES, help="What the program may do.")
@click.option(
    "--per-minute",
    type=click.IntRange(min=1),
    default=600,
    show_default=True,
    help="Requests that it may send.",
)
@expiry_options
@click.pass_obj
def issue_token(context: CliContext, name: str, role: str, per_minute: int, until: Any, span: Any) -> None:
    """Issue a token, which is printed once and stored nowhere.

    A scorer may score and send transactions, and reads nothing. A token lasts a year at most.
    """
    from pipeline.services.users.tokens import NewToken
    from pipeline.services.users.tokens import issue_token as issue

    with context.session() as session:
        end = expiry(until, span, session.config.schedule.timezone)
        issued = issue(session, NewToken(name, role, end, per_minute))
    token = issued.token
    click.echo(
        f"token {token.token_id} of {token.name}: {token.role} until {token.expires_at:%Y-%m-%d %H:%M} UTC; "
        f"it is not shown again; fraudwatch tokens revoke {token.token_id} ends it",
        err=True,
    )
    click.echo(issued.secret)


@tokens.command("list", epilog="fraudwatch tokens list\nfraudwatch tokens list --format json")
@output_options
@click.pass_obj
def list_tokens(context: CliContext, output_format: str, output: Path | None) -> None:
    """List tokens with role, end and last use."""
    from pipeline.cli.output import write_rows
    from pipeline.services.users.tokens import list_tokens as stored_tokens

    with context.session() as session:
        rows = stored_tokens(session)
    write_rows(
        rows, TOKEN_COLUMNS, output_format, output, "there is no token: see fraudwatch tokens issue --help"
    )


@tokens.command("revoke", epilog="fraudwatch tokens revoke 3")
@click.argument("token_id", type=click.IntRange(min=1))
@click.pass_obj
def revoke_token(context: CliContext, token_id: int) -> None:
    """Revoke a token."""
    from pipeline.services.users.tokens import revoke_token as revoke

    with context.session() as session:
        revoke(session, token_id)
    click.echo(f"token {token_id} is revoked")

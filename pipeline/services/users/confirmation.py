"""How long a user of an identity provider is believed without asking it."""

from pipeline.errors import NotAuthenticated
from pipeline.services.session import Session
from storage.frames import MINUTE
from storage.users.users import UserRow

CONFIRMED_FOR = 15 * MINUTE  # µs


def require_confirmed(session: Session, user: UserRow) -> None:
    """
    Check that the identity provider has confirmed a user's role lately; a local user needs none.

    Raises
    ------
    NotAuthenticated
        It has not.
    """
    if user.issuer is None:
        return
    if user.checked_at is None or session.now - user.checked_at >= CONFIRMED_FOR:
        raise NotAuthenticated(
            "the identity provider has not confirmed the user's groups for 15 minutes",
            remedy="log in again",
            code="role_unconfirmed",
        )

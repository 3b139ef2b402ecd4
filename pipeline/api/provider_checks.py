"""A thread that asks the identity provider, again and again, whether users still are in their groups."""

import threading

from pipeline import logs
from pipeline.expected_errors import EXPECTED_ERRORS
from pipeline.services.session import Session
from pipeline.services.users.oidc import check_users
from pipeline.services.users.provider import Provider

EVERY_S = 60.0


class ProviderChecks:
    """Asks about users who are due until `close`; what fails is tried again, and nobody is believed for over 15 minutes."""

    def __init__(self, session: Session, provider: Provider) -> None:
        self._session = session
        self._provider = provider
        self._failing = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="provider checks", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread; a request to the provider that is under way may still be answered."""
        self._closing.set()

    def _run(self) -> None:
        while not self._closing.wait(EVERY_S):
            self._check()

    def _check(self) -> None:
        try:
            check_users(self._session, self._provider)
        except EXPECTED_ERRORS as error:
            if not self._failing:
                logs.event("provider_check_failed", logs.WARNING, error=str(error))
            self._failing = True
        else:
            self._failing = False

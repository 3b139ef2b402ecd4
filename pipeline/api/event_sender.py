"""Tells webhooks of events while the server runs, so that they do not wait for the next tick of the schedule."""

import logging
import threading

from pipeline.expected_errors import EXPECTED_ERRORS
from pipeline.services.monitoring.notifications import send_events
from pipeline.services.session import Session

LOG = logging.getLogger(__name__)
EVERY_S = 5.0


class EventSender:
    """A thread that sends what is due, which `close` ends; nothing without webhooks."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)
        if session.config.webhook:
            self._thread.start()

    def close(self) -> None:
        """End after the request that is being sent."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(2 * EVERY_S)

    def _run(self) -> None:
        failing = ""
        while not self._closing.wait(EVERY_S):
            try:
                done = send_events(self._session, stopping=self._closing.is_set)
                error = "; ".join(done.errors)
            except EXPECTED_ERRORS as expected:
                error = str(expected)
            if error and error != failing:
                LOG.warning("webhooks: %s", error, extra={"action": "webhook_failed"})
            failing = error

"""
What users and programs looked at, for the audit trail, and when their sessions and tokens were last used.

A view is written by a thread of its own, together with others: an answer does not wait for a backfill that is just writing. The thread
begins at once, so what a killed process may lose are the views of the moment; a process that stops writes all of them. While none can
be written, answers with people's data are refused after `BEHIND`: nobody looks without a trace.
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pipeline import logs
from pipeline.expected_errors import EXPECTED_ERRORS
from pipeline.services.session import Session
from pipeline.services.users.permissions import Caller
from pipeline.services.users.sessions import LiveSession
from pipeline.services.users.tokens import LiveToken
from storage.database.column_types import as_micros
from storage.errors import Busy
from storage.frames import MINUTE
from storage.users import activity
from storage.users.activity import ViewRow

BEHIND = 30.0  # seconds that the oldest view may wait
WAITING_MAX = 10_000  # views
RETRY = 1.0  # seconds
USED_EVERY = MINUTE  # µs; a use is written this often

ViewKind = Literal["flag", "flags", "entity", "graph", "person", "verdicts", "audit", "export"]


@dataclass(frozen=True)
class View:
    """
    What somebody looked at.

    Attributes
    ----------
    subject
        An id of a payment, the name of an entity column, list or table; never a value of a person.
    rows
        Number of payments, or of rows of a list.
    detail
        What else says which they were, such as filters with values; erasing a person reaches it.
    """

    kind: ViewKind
    subject: str
    rows: int
    detail: Mapping[str, str] = field(default_factory=dict)


def _row(at: int, caller: Caller, view: View) -> ViewRow:
    verb = "export" if view.kind == "export" else f"view {view.kind}"
    return ViewRow(at, caller.name, verb, view.subject, dict(view.detail) | {"rows": view.rows})


class ActivityRecorder:
    """Writes views and uses by a thread, which `close` ends after the last one is written."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._views: list[tuple[float, ViewRow]] = []  # since when each waits, by the monotonic clock
        self._sessions: dict[int, int] = {}
        self._tokens: dict[int, int] = {}
        self._changed = threading.Condition()
        self._closing = False
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="activity", daemon=True)
        self._thread.start()

    def viewed(self, caller: Caller, view: View) -> None:
        """
        Have a view written; call it before the answer is sent.

        Raises
        ------
        Busy
            Views have not been written for a while.
        """
        with self._changed:
            oldest = self._views[0][0] if self._views else time.monotonic()
            if time.monotonic() - oldest > BEHIND or len(self._views) >= WAITING_MAX:
                raise Busy("the audit trail cannot be written", remedy="wait and repeat", code="audit_behind")
            self._views.append((time.monotonic(), _row(self._session.now, caller, view)))
            self._changed.notify()

    def used(self, access: LiveSession | LiveToken) -> None:
        """Have it written that a session or a token is used, if the last time was over a minute ago."""
        before = access.used_at if isinstance(access, LiveSession) else access.last_used_at
        now = self._session.now
        if before is not None and now - as_micros(before) < USED_EVERY:
            return
        with self._changed:
            if isinstance(access, LiveSession):
                self._sessions[access.session_id] = now
            elif access.caller.token_id is not None:
                self._tokens[access.caller.token_id] = now
            self._changed.notify()

    def close(self) -> None:
        """Write what waits, and end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(BEHIND)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._waits())
                if not self._waits():
                    return
                views, sessions, tokens = self._views[:], self._sessions, self._tokens
                self._sessions, self._tokens = {}, {}
            try:
                activity.record(self._session.store, [row for _, row in views], sessions, tokens)
            except EXPECTED_ERRORS as error:
                self._put_back(error, sessions, tokens)
                if self._closing:
                    return
                time.sleep(RETRY)
            else:
                self._failing = False
                with self._changed:
                    del self._views[: len(views)]

    def _waits(self) -> bool:
        return bool(self._views or self._sessions or self._tokens)

    def _put_back(self, error: Exception, sessions: dict[int, int], tokens: dict[int, int]) -> None:
        if not self._failing:
            logs.event("audit_behind", logs.WARNING, error=str(error))
        self._failing = True
        with self._changed:
            self._sessions = sessions | self._sessions
            self._tokens = tokens | self._tokens

"""What a request works with: the session of its caller, who that is, and what the app shares."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import Depends, Request

from pipeline.api.cursors import Cursors
from pipeline.api.request_limits import RequestLimits
from pipeline.config.config import Config
from pipeline.services.monitoring.reports import NewestReport
from pipeline.services.person import EntityValue
from pipeline.services.review.flags import FlagReason
from pipeline.services.runs.jobs import Jobs
from pipeline.services.scorer import ArrivalScorer
from pipeline.services.session import Session
from pipeline.services.users.activity import ActivityRecorder, View, ViewKind
from pipeline.services.users.handles import EntityHandles
from pipeline.services.users.masking import text_for, value_for
from pipeline.services.users.permissions import Caller
from pipeline.services.users.provider import Provider


@dataclass(frozen=True)
class AppState:
    """
    What all requests share.

    Attributes
    ----------
    session
        Its writes wait for the lock of an SQLite file for two seconds at most.
    loading
        The same database, with the patience of an ingest.
    provider
        The identity provider; None without one.
    """

    config: Config
    session: Session
    loading: Session
    handles: EntityHandles
    cursors: Cursors
    limits: RequestLimits
    activity: ActivityRecorder
    provider: Provider | None
    scorer: ArrivalScorer
    jobs: Jobs
    report: NewestReport


@dataclass(frozen=True)
class RequestContext:
    """One request of a caller."""

    app: AppState
    session: Session
    caller: Caller
    request: Request

    def loading_session(self) -> Session:
        """The session of the caller for loads."""
        return replace(self.app.loading, actor=self.caller.name)

    def viewed(
        self, kind: ViewKind, subject: str, rows: int, values: Iterable[EntityValue] = (), **detail: str
    ) -> None:
        """
        Have it written that the caller looks at people's data; call it before the answer is sent.

        Raises
        ------
        Busy
            Views have not been written for a while.
        """
        named = {value.column: value.value for value in values}
        self.app.activity.viewed(self.caller, View(kind, subject, rows, named | detail))

    def visible_fields(self, fields: Mapping[str, str | float | None]) -> dict[str, str | float | None]:
        """The configured fields of a payment as the caller may see them."""
        entities = self.app.config.schema_.entities
        return {
            name: value_for(self.caller, value) if name in entities and isinstance(value, str) else value
            for name, value in fields.items()
        }

    def visible_text(self, text: str | None) -> str | None:
        """What somebody wrote, as the caller may see it."""
        return text_for(self.caller, text)

    def visible_reason(self, reason: FlagReason) -> str:
        """The sentence of a reason as the caller may see it: a rule's quotes values."""
        return self.visible_text(reason.text) or "" if reason.code == "RULE" else reason.text

    def entity_handles(self, fields: Mapping[str, str | float | None]) -> dict[str, str]:
        """By entity column the handle of a payment's value, which stands for it in addresses."""
        values = {name: fields.get(name) for name in self.app.config.schema_.entities}
        return {
            name: self.app.handles.handle(name, value)
            for name, value in values.items()
            if isinstance(value, str)
        }


def app_state(request: Request) -> AppState:
    """What the app of a request shares."""
    state = request.app.state.shared
    assert isinstance(state, AppState)
    return state


def _context(request: Request) -> RequestContext:
    state, caller = app_state(request), request.scope["state"]["caller"]
    return RequestContext(state, replace(state.session, actor=caller.name), caller, request)


Context = Annotated[RequestContext, Depends(_context)]

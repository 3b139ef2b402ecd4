"""When a rule or a mute ends: at a time, or after a span."""

from datetime import datetime, timedelta
from typing import Annotated

from pydantic import Field, model_validator

from pipeline.api.body import Body
from pipeline.api.types import Instant, Reason

SPAN_MAX = timedelta(days=3_660)


class ExpiringBody(Body):
    """Why something is added, and when it ends: either `until`, or after `span`, an ISO 8601 duration such as P7D."""

    reason: Reason
    until: Instant | None = None
    span: Annotated[timedelta, Field(gt=timedelta(0), le=SPAN_MAX)] | None = None

    @model_validator(mode="after")
    def _one_end(self) -> "ExpiringBody":
        if (self.until is None) == (self.span is None):
            raise ValueError("give either until or span")
        return self

    @property
    def end(self) -> datetime | timedelta:
        """As the services take it."""
        if self.until is not None:
            return self.until
        assert self.span is not None
        return self.span

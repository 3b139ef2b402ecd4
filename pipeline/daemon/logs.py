"""
Log lines with an `action`, for people (console) or for machines (one JSON object a line).

A field is a count, an id of ours, an instant or a sentence about a failure; never an entity's value or an amount.
"""

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

from pipeline.sanitize import for_terminal

Form = Literal["console", "json"]
LOG = logging.getLogger("fraudwatch")


def configure(form: Form, stream: TextIO | None = None) -> None:
    """Send the daemon's lines to a stream (standard error) in one of two forms."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_Json() if form == "json" else _Console())
    LOG.handlers[:] = [handler]
    LOG.setLevel(logging.INFO)
    LOG.propagate = False
    scheduler = logging.getLogger("apscheduler")  # a tick that is skipped while one works is no news
    scheduler.handlers[:] = [handler]
    scheduler.setLevel(logging.ERROR)
    scheduler.propagate = False


def event(action: str, level: int = logging.INFO, /, **fields: Any) -> None:
    """Say what happened."""
    LOG.log(level, action, extra={"fields": fields})


def bug(action: str, /, **fields: Any) -> None:
    """Say what went wrong that nobody foresaw, with the traceback of the exception being handled."""
    LOG.error(action, extra={"fields": fields}, exc_info=True)


def _fields(record: logging.LogRecord) -> Mapping[str, Any]:
    return getattr(record, "fields", {})


def _moment(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


class _Json(logging.Formatter):
    """One object a line; line breaks inside values are escaped by JSON."""

    def format(self, record: logging.LogRecord) -> str:
        row = {"at": _moment(record), "level": record.levelname.lower(), "action": record.getMessage()}
        row |= _fields(record)
        if record.exc_info:
            row["traceback"] = self.formatException(record.exc_info)
        return json.dumps(row, default=str, ensure_ascii=True)


class _Console(logging.Formatter):
    """Time, level, action and fields on one line; a traceback follows."""

    def format(self, record: logging.LogRecord) -> str:
        said = [_moment(record), record.levelname.lower(), record.getMessage()]
        said += [f"{name}={for_terminal(_text(value))}" for name, value in _fields(record).items()]
        lines = " ".join(said)
        return f"{lines}\n{self.formatException(record.exc_info)}" if record.exc_info else lines


def _text(value: Any) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if " " in text or not text else text

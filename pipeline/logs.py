"""
Log lines with an `action`, for people (console) or for machines (one JSON object per line).

A field is a count, an id, an instant or a sentence about a failure; never an entity's value or an amount.
"""

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

from pipeline.sanitize import for_terminal

LogFormat = Literal["console", "json"]
LOG = logging.getLogger("fraudwatch")
WARNING, ERROR = logging.WARNING, logging.ERROR


def configure(log_format: LogFormat, stream: TextIO | None = None) -> None:
    """Write the daemon's log to a stream (default: standard error) in one of two formats."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else ConsoleFormatter())
    LOG.handlers[:] = [handler]
    LOG.setLevel(logging.INFO)
    LOG.propagate = False
    scheduler = logging.getLogger("apscheduler")  # not worth a line: a tick skipped while another runs
    scheduler.handlers[:] = [handler]
    scheduler.setLevel(logging.ERROR)
    scheduler.propagate = False
    # What it says of a server that went away is said by `database_away`, without a traceback.
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)


def event(action: str, level: int = logging.INFO, /, **fields: Any) -> None:
    """Log an event."""
    LOG.log(level, action, extra={"fields": fields})


def bug(action: str, error: Exception, /, **fields: Any) -> None:
    """Log an unexpected exception with its traceback."""
    LOG.error(action, extra={"fields": fields}, exc_info=error)


def _fields(record: logging.LogRecord) -> Mapping[str, Any]:
    return getattr(record, "fields", {})


def _moment(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


class JsonFormatter(logging.Formatter):
    """One JSON object per line; line breaks inside values are escaped."""

    def format(self, record: logging.LogRecord) -> str:
        row = {"at": _moment(record), "level": record.levelname.lower(), "action": record.getMessage()}
        row |= _fields(record)
        if record.exc_info:
            row["traceback"] = self.formatException(record.exc_info)
        return json.dumps(row, default=str, ensure_ascii=True)


class ConsoleFormatter(logging.Formatter):
    """Time, level, action and fields on one line; a traceback follows."""

    def format(self, record: logging.LogRecord) -> str:
        parts = [_moment(record), record.levelname.lower(), record.getMessage()]
        parts += [f"{name}={for_terminal(_text(value))}" for name, value in _fields(record).items()]
        lines = " ".join(parts)
        return f"{lines}\n{self.formatException(record.exc_info)}" if record.exc_info else lines


def _text(value: Any) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if " " in text or not text else text

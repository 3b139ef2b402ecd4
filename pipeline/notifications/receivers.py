"""Receivers of notifications: the URLs of [notify] and the events of each."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import SecretStr

from pipeline.config.config import Config
from pipeline.config.sections import RECEIVER_URL
from storage.notifications.events import EVENTS


@dataclass(frozen=True)
class Receiver:
    """One URL; only its position and the name of its service are ever shown."""

    position: int  # in notify.urls, from 1
    service: str
    events: Sequence[str]
    url: SecretStr

    @property
    def display_name(self) -> str:
        """The name used in lists, logs and messages; it contains no part of the URL."""
        return f"URL {self.position} ({self.service})"


def receivers(config: Config) -> list[Receiver]:
    """The configured receivers, in the order of notify.urls."""
    return [_receiver(position, url) for position, url in enumerate(config.notify.urls, start=1)]


def _receiver(position: int, url: SecretStr) -> Receiver:
    match = RECEIVER_URL.fullmatch(url.get_secret_value())
    assert match is not None  # the configuration rejects any other value
    events = tuple(match[1].split(",")) if match[1] else EVENTS
    bare = url.get_secret_value().removeprefix(f"{match[1]}=" if match[1] else "")
    return Receiver(position, match[2].lower(), events, SecretStr(bare))

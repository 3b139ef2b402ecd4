"""Who is told: the URLs of [notify], and which events each is for."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import SecretStr

from pipeline.config.config import Config
from pipeline.config.sections import RECEIVER


@dataclass(frozen=True)
class Receiver:
    """One URL; only its place and its service's name are ever shown."""

    place: int  # in notify.urls, from 1
    service: str
    events: Sequence[str]
    url: SecretStr

    @property
    def shown(self) -> str:
        """For lists, logs and messages."""
        return f"URL {self.place} ({self.service})"


def receivers(config: Config) -> list[Receiver]:
    """Those that are configured, in their order."""
    return [_receiver(place, url, config) for place, url in enumerate(config.notify.urls, start=1)]


def _receiver(place: int, url: SecretStr, config: Config) -> Receiver:
    found = RECEIVER.fullmatch(url.get_secret_value())
    assert found is not None  # the section refuses any other
    events = found[1].split(",") if found[1] else config.notify.events
    bare = url.get_secret_value().removeprefix(f"{found[1]}=" if found[1] else "")
    return Receiver(
        place, found[2].lower(), [one for one in events if one in config.notify.events], SecretStr(bare)
    )

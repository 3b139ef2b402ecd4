"""One message to one URL by Apprise, which is asked for only when there is something to send."""

import logging
import re
import warnings
from importlib.util import find_spec
from io import StringIO

from pipeline.config.config import Config
from pipeline.errors import ConfigError
from pipeline.notifications.receivers import Receiver

URGENT = ("failure",)
TELLING_MAX = 300  # characters of what a service answered
PIECE_MIN = 6  # characters of a part of a URL that may be a secret; shorter ones are words
LOG = "apprise"


def insist(config: Config) -> None:
    """
    Refuse to begin without the library that messages are sent by.

    Raises
    ------
    ConfigError
        notify.urls is set, and Apprise is not installed.
    """
    if config.notify.wanted and find_spec("apprise") is None:
        raise ConfigError(
            "notify.urls is set, and messages are sent by Apprise, which is not installed: "
            "pip install 'fraudwatch[notify]', or remove the URLs"
        )


def send(receiver: Receiver, subject: str, body: str, *, urgent: bool = False) -> str | None:
    """
    Send a message and wait for the answer; returns why it has not arrived, None if it has.

    What the service said is repeated without any part of the URL.
    """
    try:
        return _send(receiver, subject, body, urgent)
    except Exception as error:  # noqa: BLE001 (code of a hundred services: none of them may stop the others, or a daemon)
        return f"{receiver.shown}: Apprise failed with {type(error).__name__}"


def _send(receiver: Receiver, subject: str, body: str, urgent: bool) -> str | None:
    from apprise import Apprise, AppriseAsset, NotifyFormat, NotifyType

    asset = AppriseAsset(app_id="fraudwatch", app_desc="fraudwatch", app_url="", async_mode=False)
    with _listening() as heard:
        with warnings.catch_warnings():  # loading its services warns of modules that Python is to drop
            warnings.simplefilter("ignore", DeprecationWarning)
            service = Apprise.instantiate(receiver.url.get_secret_value(), asset=asset)
        if service is None:
            return f"{receiver.shown} is not understood by Apprise: check it against https://appriseit.com/services/"
        sender = Apprise(asset=asset)
        sender.add(service)
        kind = NotifyType.FAILURE if urgent else NotifyType.INFO
        done = sender.notify(title=subject, body=body, notify_type=kind, body_format=NotifyFormat.TEXT)
        return None if done else _told(heard.text(), receiver)


class _listening:  # noqa: N801 (reads as what it does: with _listening())
    """What Apprise says meanwhile; none of it reaches any log, for it may hold parts of a URL."""

    def __enter__(self) -> "_listening":
        self._log = logging.getLogger(LOG)
        self._held = StringIO()
        self._handler = logging.StreamHandler(self._held)
        self._before = self._log.propagate, self._log.level
        self._log.addHandler(self._handler)
        self._log.propagate = False
        self._log.setLevel(logging.WARNING)
        return self

    def __exit__(self, *_: object) -> None:
        self._log.removeHandler(self._handler)
        self._log.propagate, level = self._before
        self._log.setLevel(level)

    def text(self) -> str:
        """All of it on one line."""
        return " ".join(self._held.getvalue().split())


def _told(text: str, receiver: Receiver) -> str:
    pieces = re.split(r"[^\w.-]+", receiver.url.get_secret_value())
    for piece in sorted({one for one in pieces if len(one) >= PIECE_MIN}, key=len, reverse=True):
        text = text.replace(piece, "…")
    return f"{receiver.shown}: {text[:TELLING_MAX] or 'the service did not take it'}"

"""Send one message to one URL by Apprise, which is imported only when there is something to send."""

import logging
import re
import warnings
from importlib.util import find_spec
from io import StringIO
from urllib.parse import parse_qsl, unquote

from pipeline.config.config import Config
from pipeline.errors import ConfigError
from pipeline.notifications.receivers import Receiver

RESPONSE_MAX = 300  # characters of a service's response that are repeated
SECRET_PART_MIN = 6  # characters of a part of a URL that may be a secret; shorter parts are ordinary words
APPRISE_LOGGER = "apprise"


def require_apprise(config: Config) -> None:
    """
    Check that Apprise is installed if notify.urls is set.

    Raises
    ------
    ConfigError
        notify.urls is set, but Apprise is not installed.
    """
    if config.notify.enabled and find_spec("apprise") is None:
        raise ConfigError(
            "notify.urls is set, but Apprise, which sends the messages, is not installed: "
            "pip install 'fraudwatch[notify]', or remove the URLs"
        )


def send(receiver: Receiver, subject: str, body: str, *, urgent: bool = False) -> str | None:
    """
    Send a message and wait for the response; returns None if it arrived, otherwise the reason.

    The service's response is repeated without any part of the URL.
    """
    try:
        return _send(receiver, subject, body, urgent)
    except Exception as error:  # noqa: BLE001 (code of a hundred services: none of them may stop the others or the daemon)
        return f"{receiver.display_name}: Apprise failed with {type(error).__name__}"


def _send(receiver: Receiver, subject: str, body: str, urgent: bool) -> str | None:
    from apprise import Apprise, AppriseAsset, NotifyFormat, NotifyType

    asset = AppriseAsset(app_id="fraudwatch", app_desc="fraudwatch", app_url="", async_mode=False)
    with _CapturedLog() as log:
        with warnings.catch_warnings():  # its services import deprecated modules
            warnings.simplefilter("ignore", DeprecationWarning)
            service = Apprise.instantiate(receiver.url.get_secret_value(), asset=asset)
        if service is None:
            return f"{receiver.display_name} is not understood by Apprise: check it against https://appriseit.com/services/"
        sender = Apprise(asset=asset)
        sender.add(service)
        kind = NotifyType.FAILURE if urgent else NotifyType.INFO
        arrived = sender.notify(title=subject, body=body, notify_type=kind, body_format=NotifyFormat.TEXT)
        return None if arrived else _failure_text(log.text(), receiver)


class _CapturedLog:
    """Captures Apprise's log lines; they may contain parts of a URL, so they do not reach any log."""

    def __enter__(self) -> "_CapturedLog":
        self._log = logging.getLogger(APPRISE_LOGGER)
        self._buffer = StringIO()
        self._handler = logging.StreamHandler(self._buffer)
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
        """All captured lines as one line."""
        return " ".join(self._buffer.getvalue().split())


def _failure_text(text: str, receiver: Receiver) -> str:
    for part in _secret_parts(receiver.url.get_secret_value()):
        text = text.replace(part, "…")
    return f"{receiver.display_name}: {text[:RESPONSE_MAX] or 'the service rejected the message'}"


def _secret_parts(url: str) -> list[str]:
    """The password and the values of parameters, of any length, and all longer parts, also as they are when unescaped; longest first."""
    address, _, query = url.partition("?")
    userinfo = address.partition("://")[2].rpartition("@")[0]
    whole = {userinfo.partition(":")[2], *(value for _, value in parse_qsl(query))}
    parts = {part for text in (url, unquote(url)) for part in re.split(r"[^\w.-]+", text)}
    secrets = {part for part in parts if len(part) >= SECRET_PART_MIN} | whole | set(map(unquote, whole))
    return sorted(filter(None, secrets), key=len, reverse=True)

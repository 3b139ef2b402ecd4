"""The dead man's switch: a URL that is requested after each tick that ended well, so that silence is an alarm elsewhere."""

import threading
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from pipeline.config.config import Config
from pipeline.errors import FraudwatchError

WITHIN_S = 10  # for the whole request, names and redirects included


class PingError(FraudwatchError):
    """The service of notify.ping_url did not take the ping; the message does not contain the URL."""

    code = "ping_failed"


def ping(config: Config) -> None:
    """
    Request notify.ping_url.

    Nothing is requested after a tick that failed: every such service takes silence for the alarm, but each has another way
    to be told of a failure.

    Raises
    ------
    PingError
        The service did not answer within `WITHIN_S`, or refused the request.
    """
    answers: list[str] = []
    url = config.notify.ping_url.get_secret_value()
    request = threading.Thread(target=lambda: answers.append(_request(url)), name="ping", daemon=True)
    request.start()
    request.join(WITHIN_S)
    answer = answers[0] if answers else _late()
    if answer:
        raise PingError(f"notify.ping_url was not reached: {answer}", remedy="check the URL and the network")


def _request(url: str) -> str:
    """Why a request failed, "" if it was answered."""
    try:
        with urlopen(Request(url, headers={"User-Agent": "fraudwatch"}), timeout=WITHIN_S):  # noqa: S310 (http or https by the config)
            return ""
    except HTTPError as error:
        error.close()
        return f"the answer was {error.code}"
    except TimeoutError:
        return _late()
    except URLError as error:
        if isinstance(error.reason, TimeoutError):
            return _late()
        return str(getattr(error.reason, "strerror", None) or type(error.reason).__name__)
    except Exception as error:  # noqa: BLE001 (its text may hold the URL)
        return type(error).__name__


def _late() -> str:
    return f"there was no answer within {WITHIN_S} s"

"""Results by HTTP: a ping for a monitor that misses it, and a document for a web hook."""

from __future__ import annotations

from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit, urlunsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

from virtcpr.errors import HostError

SECONDS = 10.0


class _Stay(HTTPRedirectHandler):
    """A redirection could lead anywhere, and would lose the document."""

    def redirect_request(self, *_: object) -> None:
        return None


def ping(url: str, exit_code: int) -> None:
    """Tell a monitor that a run has ended, as healthchecks takes it: its URL with the exit code.  Raises HostError."""
    parts = urlsplit(url)
    _ask("results.ping", Request(urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{exit_code}"))))


def post(url: str, document: str) -> None:
    """Send a JSON document.  Raises HostError."""
    headers = {"Content-Type": "application/json"}
    _ask("results.webhook", Request(url, data=document.encode(), headers=headers, method="POST"))


def _ask(key: str, request: Request) -> None:
    """The URL, which is as good as a password, is in no message."""
    request.add_header("User-Agent", "virtcpr")
    try:
        with build_opener(ProxyHandler(), _Stay).open(request, timeout=SECONDS) as answer:
            answer.read(1)
    except HTTPError as error:
        raise HostError(f"{key}: the server answers {error.code} {error.reason}") from error
    except URLError as error:
        raise HostError(f"{key}: the server can't be reached: {error.reason}") from error
    except (OSError, HTTPException, ValueError) as error:
        raise HostError(f"{key}: the server can't be reached: {type(error).__name__}") from error

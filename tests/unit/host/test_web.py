"""Results by HTTP, to a server on this machine."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from virtcpr.errors import HostError
from virtcpr.host.report import web

SECRET = "6a7c-secret"


@dataclass
class Server:
    url: str
    answer: int = 200
    asked: list[tuple[str, str, str | None, str]] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    """It remembers method, path, content type and body."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._take()

        def do_POST(self) -> None:
            self._take()

        def _take(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            made.asked.append((self.command, self.path, self.headers.get("Content-Type"), body))
            self.send_response(made.answer)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    listening = HTTPServer(("127.0.0.1", 0), Handler)
    made = Server(f"http://127.0.0.1:{listening.server_port}/{SECRET}")
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    yield made
    listening.shutdown()
    thread.join()
    listening.server_close()


def test_a_ping_has_the_exit_code(server: Server) -> None:
    web.ping(server.url, 0)
    web.ping(f"{server.url}/", 4)
    web.ping(f"{server.url}?create=1", 6)
    assert [(method, path) for method, path, _, _ in server.asked] == [
        ("GET", f"/{SECRET}/0"),
        ("GET", f"/{SECRET}/4"),
        ("GET", f"/{SECRET}/6?create=1"),
    ]


def test_a_document(server: Server) -> None:
    web.post(f"{server.url}?x=1", '{"ä": 1}')
    assert server.asked == [("POST", f"/{SECRET}?x=1", "application/json", '{"ä": 1}')]


@pytest.mark.parametrize("answer", [404, 500, 302])
def test_who_does_not_take_it(server: Server, answer: int) -> None:
    """A redirection isn't followed; no message has the URL."""
    server.answer = answer
    with pytest.raises(HostError, match=f"results.webhook: the server answers {answer} ") as refused:
        web.post(server.url, "{}")
    assert SECRET not in str(refused.value)
    assert len(server.asked) == 1


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(HostError, match=r"results.ping: the server can't be reached: .*refused"):
        web.ping(f"http://127.0.0.1:{port}/{SECRET}", 0)


def test_one_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(HostError, match=r"results.ping: the server can't be reached: ") as refused:
            web.ping(f"http://127.0.0.1:{port}/{SECRET}", 0)
        assert SECRET not in str(refused.value)


def test_one_that_speaks_something_else() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:

        def greet() -> None:
            connection, _ = other.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"220 mail\r\n")

        thread = threading.Thread(target=greet)
        thread.start()
        with pytest.raises(HostError, match=r"results.ping: the server can't be reached: BadStatusLine"):
            web.ping(f"http://127.0.0.1:{other.getsockname()[1]}/", 0)
        thread.join()

"""Does the host's client of the broker go through the proxy that the environment names, and survive a connection that was hung up?"""

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from securemllib.errors import UsageError
from securemllib.spark.broker_client import BrokerAddress, BrokerClient

PROXIES = ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY")


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


@contextmanager
def answering(*, requests: int | None = None) -> Iterator[tuple[str, list[str], list[int]]]:
    """Serve a job's head over connections that end, without a word, after so many requests; give URL, paths and connections' ports."""
    paths: list[str] = []
    ports: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        served = 0

        def do_GET(self) -> None:
            paths.append(self.path)
            ports.append(self.client_address[1])
            body = b'{"round": 3}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            self.served += 1
            self.close_connection = self.served == requests

        def log_message(self, *arguments: Any) -> None:
            """Say nothing."""

    with _Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", paths, ports
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)


def test_a_connection_is_kept() -> None:
    """Requests share one connection."""
    with answering() as (url, _, ports):
        client = BrokerClient(BrokerAddress(url=url, wait=5.0))
        assert [client.head("a"), client.head("b"), client.head("c")] == [3, 3, 3]
        client.close()
    assert len(set(ports)) == 1


def test_a_connection_that_was_hung_up_is_made_anew() -> None:
    """A broker, or a gateway before it, ends connections when it pleases: the next request opens another."""
    with answering(requests=1) as (url, _, ports):
        client = BrokerClient(BrokerAddress(url=url, wait=5.0))
        assert [client.head("a"), client.head("b")] == [3, 3]
        client.close()
    assert len(set(ports)) == 2


def test_requests_go_through_the_environments_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy of the environment gets the whole URL; one that is named as an exception is asked itself."""
    with answering() as (proxy, asked, _), answering() as (url, paths, _):
        monkeypatch.setenv("http_proxy", proxy)
        client = BrokerClient(BrokerAddress(url="http://broker.example:8460", wait=5.0))
        assert client.head("a") == 3
        assert asked == ["http://broker.example:8460/v1/jobs/a/head"]
        client.close()
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        direct = BrokerClient(BrokerAddress(url=f"{url}/", wait=5.0))
        assert direct.head("b") == 3
        assert (len(asked), paths) == (1, ["/v1/jobs/b/head"])
        direct.close()


@pytest.mark.parametrize("url", ["", "http://", "http://[::1", "ftp://broker.example", "broker.example:8460"])
def test_a_url_that_is_none_is_an_error_at_once(url: str) -> None:
    """What no waiting would help is an error with its code before anything is sent; a URL beside it is taken."""
    BrokerClient(BrokerAddress(url="https://broker.example:8460")).close()
    with pytest.raises(UsageError, match=r"like https://host:port") as caught:
        BrokerClient(BrokerAddress(url=url))
    assert caught.value.error_code == "usage.broker_url"

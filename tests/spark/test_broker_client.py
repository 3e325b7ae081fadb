"""Does the host's client of the broker go through the proxy that the environment names, and survive a connection that was hung up?"""

import socketserver
import threading
import traceback
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from securemllib.errors import FormatError, UnavailableError, UsageError
from securemllib.spark import broker_client
from securemllib.spark.broker_client import BrokerAddress, BrokerClient

PROXIES = ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY")


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


@contextmanager
def answering(
    *, requests: int | None = None, body: bytes = b'{"round": 3}', announced: int | None = None
) -> Iterator[tuple[str, list[str], list[int]]]:
    """Serve a job's head over connections that end, without a word, after so many requests; give URL, paths and connections' ports."""
    paths: list[str] = []
    ports: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        served = 0

        def do_GET(self) -> None:
            paths.append(" ".join(filter(None, (self.path, self.headers.get("Proxy-Authorization")))))
            ports.append(self.client_address[1])
            self.send_response(200)
            self.send_header("Content-Length", str(len(body) if announced is None else announced))
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


def test_an_answer_is_read_no_further_than_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host in the place of the broker does not fill a driver's or an executor's memory; an answer of the bound's size is read."""
    body = b'{"round": 3}'
    monkeypatch.setattr(broker_client, "_ANSWER_LIMIT", len(body))
    with answering(body=body) as (url, _, ports):
        client = BrokerClient(BrokerAddress(url=url, wait=5.0))
        assert client.head("a") == 3
        monkeypatch.setattr(broker_client, "_ANSWER_LIMIT", 5)
        with pytest.raises(FormatError, match="more than 5 bytes"):
            client.head("a")
        monkeypatch.setattr(broker_client, "_ANSWER_LIMIT", len(body))
        assert client.head("a") == 3
        client.close()
    assert len(set(ports)) == 2


def test_an_answer_that_is_cut_off_is_none() -> None:
    """An answer that ends before the length that it announced is asked for again, and then told as an unreachable broker."""
    with answering(requests=1, announced=100) as (url, paths, _):
        client = BrokerClient(BrokerAddress(url=url, wait=0.2))
        with pytest.raises(UnavailableError) as refused:
            client.head("a")
        client.close()
    assert refused.value.error_code == "unavailable.broker"
    assert len(paths) > 1


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


def test_a_proxy_is_told_the_name_and_password_of_its_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """They may hold what a URL quotes; the variable for all schemes counts where the scheme has none, and a URL may lack its own."""
    with answering() as (proxy, asked, _):
        for variable, value in (("http_proxy", f"http://hospital:s%40fe@{proxy[7:]}"), ("all_proxy", proxy[7:])):
            monkeypatch.setenv(variable, value)
            client = BrokerClient(BrokerAddress(url="http://broker.example", wait=5.0))
            assert client.head("a") == 3
            client.close()
            monkeypatch.delenv(variable)
    told = f"Basic {b64encode(b'hospital:s@fe').decode()}"
    assert asked == [f"http://broker.example/v1/jobs/a/head {told}", "http://broker.example/v1/jobs/a/head"]


@pytest.mark.parametrize("proxy", ["socks5://user:s3cret@127.0.0.1:1080", "http://user:s3cret@[::1"])
def test_a_proxy_that_is_not_of_http_is_an_error_without_its_password(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused by its code before anything is sent, and neither the error nor its cause repeats the URL."""
    monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(UsageError) as caught:
        BrokerClient(BrokerAddress(url="http://broker.example"))
    assert caught.value.error_code == "usage.proxy"
    assert "s3cret" not in "".join(traceback.format_exception(caught.value, chain=True))


@pytest.mark.parametrize("url", ["", "http://", "http://[::1", "ftp://broker.example", "broker.example:8460"])
def test_a_url_that_is_none_is_an_error_at_once(url: str) -> None:
    """What no waiting would help is an error with its code before anything is sent; a URL beside it is taken."""
    BrokerClient(BrokerAddress(url="https://broker.example:8460")).close()
    with pytest.raises(UsageError, match=r"like https://host:port") as caught:
        BrokerClient(BrokerAddress(url=url))
    assert caught.value.error_code == "usage.broker_url"

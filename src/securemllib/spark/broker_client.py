"""The host's side of the key broker's HTTP interface: it carries signed and sealed records, and opens none."""

import atexit
import json
import ssl
import time
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from dataclasses import dataclass
from functools import lru_cache
from http.cookies import CookieError, SimpleCookie
from typing import Any, ClassVar
from urllib.parse import unquote
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3 import HTTPHeaderDict
from urllib3.exceptions import HTTPError, LocationParseError, LocationValueError

from securemllib.errors import FormatError, UnavailableError, UsageError, error_from_code
from securemllib.wire.attestation import Challenge
from securemllib.wire.identity import PublicIdentity
from securemllib.wire.record import Record
from securemllib.wire.signed import Signed

__all__ = ["Asked", "BrokerAddress", "BrokerClient", "Submitted", "broker_client"]

# The version of the Key Broker Service protocol that the requests follow.
_KBS_VERSION = "0.4.0"
_TIMEOUT_SECONDS = 30.0
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 2.0
# Fits of one session may run in several threads.
_CONNECTIONS = 8
_ANSWER_LIMIT = 64 * 2**20
_SESSION_COOKIE = "kbs-session-id"
_ERRORS = 400
# A broker that is asked too often answers with the first, a gateway in front of a broker that restarts with the others.
_PASSING = frozenset({429, 502, 503, 504})


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerAddress:
    """Where a broker is.

    Attributes:
        url: ``https://host:port``.
        ca: Path of the certificate authority, empty for the system's.
        wait: Seconds to wait for it when it does not answer.
    """

    url: str
    ca: str = ""
    wait: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked(Record):
    """A challenge and the session that takes its answer: for one enclave, once."""

    TYPE: ClassVar[str] = "relay-asked"

    session: str
    challenge: Challenge


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: HTTPHeaderDict
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """An accepted job, and the challenge for its first enclave where it takes one."""

    job_id: str
    asked: Asked | None


class BrokerClient:
    """Requests to one broker, over connections that are kept open.

    Args:
        address: Which broker.

    Raises:
        UsageError: The address is no URL of HTTP, nor is the proxy that the environment names for it.
    """

    def __init__(self, address: BrokerAddress) -> None:
        self._address = address
        self._http = _connections(address)

    def close(self) -> None:
        """Hang up."""
        self._http.clear()

    def identity(self) -> PublicIdentity:
        """Return the broker's identity, as it says itself."""
        return PublicIdentity.from_bytes(_binary(self._call("GET", "/v1/identity"), "identity"))

    def submit(self, job: Signed, tee: str = "insecure") -> Submitted:
        """Hand in a signed job and return its id, with a challenge for its first enclave; the broker's refusal is raised."""
        answer = self._call("POST", "/v1/jobs", {"job": _base64(job.to_bytes()), "tee": tee})
        asked = None
        if answer.get("session") is not None:
            asked = Asked(session=_text(answer, "session"), challenge=Challenge.from_bytes(_binary(answer, "challenge")))
        return Submitted(job_id=_text(answer, "job_id"), asked=asked)

    def challenge(self, job_id: str, tee: str = "insecure") -> Asked:
        """Return a fresh challenge for an enclave that is to work on the job."""
        body = {"version": _KBS_VERSION, "tee": tee, "extra-params": {"job_id": job_id}}
        response = self._request("POST", "/kbs/v0/auth", body)
        session = _session(response)
        extra = _document(response).get("extra-params")
        if session is None or not isinstance(extra, dict):
            raise FormatError("The broker's answer holds no challenge.")
        return Asked(session=session, challenge=Challenge.from_bytes(_binary(extra, "challenge")))

    def admit(self, session: str, evidence: bytes, job_id: str) -> tuple[Signed, int | None]:
        """Return the broker's signed and wrapped grant of a job's keys for the evidence, and the round of the head in it."""
        answer = self._call("POST", f"/v1/jobs/{job_id}/grant", {"session": session, "evidence": _base64(evidence)})
        return Signed.from_bytes(_binary(answer, "grant")), _round(answer)

    def head(self, job_id: str) -> int | None:
        """Return the round that the broker recorded last for a job, None where it recorded none."""
        return _round(self._call("GET", f"/v1/jobs/{job_id}/head"))

    def record(self, job_id: str, update: bytes) -> bytes:
        """Hand in an aggregator's sealed update of the job's head and return the sealed acknowledgement."""
        return _binary(self._call("POST", f"/v1/jobs/{job_id}/head", {"update": _base64(update)}), "acknowledgement")

    def finish(self, job_id: str, end: Signed) -> None:
        """Hand in the analyst's signed notice that a job's results have come, or are not waited for: it gets no more keys."""
        self._request("POST", f"/v1/jobs/{job_id}/finish", {"end": _base64(end.to_bytes())})

    def release(self, job: Signed) -> tuple[Signed, ...]:
        """Hand in a signed release and return the model's keys, each wrapped for one recipient."""
        keys = self._call("POST", "/v1/releases", {"job": _base64(job.to_bytes())}).get("keys")
        if not isinstance(keys, list):
            raise FormatError("The broker's answer holds no keys.")
        return tuple(Signed.from_bytes(_binary({"key": key}, "key")) for key in keys)

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        return _document(self._request(method, path, body))

    def _request(self, method: str, path: str, body: dict[str, Any] | None = None) -> _Answer:
        url, headers = f"{self._address.url.rstrip('/')}{path}", {} if body is None else {"Content-Type": "application/json"}
        content = None if body is None else json.dumps(body).encode()
        deadline, pause = time.monotonic() + self._address.wait, _FIRST_PAUSE_SECONDS
        found: Exception | None = None
        response: _Answer | None
        while True:
            try:
                response = self._answer(method, url, content, headers)
            except HTTPError as error:
                response, found = None, error
            if response is not None and response.status not in _PASSING:
                return _checked(response)
            pause = max(pause, _retry_after(response))
            if time.monotonic() + pause > deadline:
                if response is not None:
                    return _checked(response)
                raise UnavailableError(
                    f"The broker at {self._address.url} did not answer within {self._address.wait:g} seconds.",
                    next_step="Check spark.securemllib.broker.url and that the broker runs, then try again.",
                    code="unavailable.broker",
                ) from found
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _answer(self, method: str, url: str, content: bytes | None, headers: dict[str, str]) -> _Answer:
        response = self._http.urlopen(method, url, body=content, headers=headers, redirect=False, retries=False, preload_content=False)
        body = response.read(_ANSWER_LIMIT + 1)
        if len(body) > _ANSWER_LIMIT:
            response.close()
            raise FormatError(f"The broker at {self._address.url} answers with more than {_ANSWER_LIMIT} bytes.")
        response.release_conn()
        return _Answer(response.status, response.headers, body)


@lru_cache(maxsize=16)
def broker_client(address: BrokerAddress) -> BrokerClient:
    """Return this process's client of a broker: all its requests share a connection, which ends with the process."""
    client = BrokerClient(address)
    # Sessions come and go while others use it, so none of them hangs up.
    atexit.register(client.close)
    return client


def _connections(address: BrokerAddress) -> urllib3.PoolManager:
    """Return what connects to a broker, through the proxy that the environment names, if it does."""
    try:
        url = urllib3.util.parse_url(address.url)
    except LocationParseError:
        url = urllib3.util.Url()
    if url.host is None or url.scheme not in {"http", "https"}:
        raise UsageError(
            f"The broker's URL is like https://host:port, not {address.url!r}.",
            next_step="Set spark.securemllib.broker.url.",
            code="usage.broker_url",
        )
    options: dict[str, Any] = {"maxsize": _CONNECTIONS, "timeout": _TIMEOUT_SECONDS}
    if url.scheme == "https":
        options["ssl_context"] = ssl.create_default_context(cafile=address.ca or None)
    named = getproxies()
    proxy = "" if proxy_bypass(url.host) else named.get(url.scheme) or named.get("all") or ""
    return _through(proxy if "://" in proxy else f"http://{proxy}", options) if proxy else urllib3.PoolManager(**options)


def _through(proxy: str, options: dict[str, Any]) -> urllib3.ProxyManager:
    """Return what connects through a proxy, with the name and password that its URL holds, if it does."""
    try:
        auth = urllib3.util.parse_url(proxy).auth
        headers = None if auth is None else urllib3.make_headers(proxy_basic_auth=unquote(auth))
        return urllib3.ProxyManager(proxy, proxy_headers=headers, **options)
    except LocationValueError:
        # Not shown: it may hold a password, which the cause would repeat.
        raise UsageError(
            "The environment names a proxy whose URL is not like http://host:port.",
            next_step="Set https_proxy or http_proxy to another one, or name the broker's host in no_proxy.",
            code="usage.proxy",
        ) from None


def _session(response: _Answer) -> str | None:
    """Return the session that the answer's cookie names; it goes with each request, because one connection serves many sessions."""
    try:
        cookie = SimpleCookie(response.headers.get("Set-Cookie", "")).get(_SESSION_COOKIE)
    except CookieError:
        return None
    return None if cookie is None else cookie.value


def _checked(response: _Answer) -> _Answer:
    if response.status < _ERRORS:
        return response
    problem = _document(response, strict=False)
    code, reason, step = (problem.get(name) for name in ("code", "reason", "next_step"))
    if not isinstance(code, str) or not isinstance(reason, str):
        raise UnavailableError(f"The broker answered with status {response.status} and no reason.", code="unavailable.broker")
    raise error_from_code(code, reason, step if isinstance(step, str) else None)


def _retry_after(response: _Answer | None) -> float:
    """Return the seconds that an answer asks to wait for, 0 where it does not say."""
    asked = "" if response is None else response.headers.get("Retry-After", "")
    return float(asked) if asked.isdecimal() else 0.0


def _document(response: _Answer, *, strict: bool = True) -> dict[str, Any]:
    try:
        document = json.loads(response.body)
    except ValueError:
        document = None
    if isinstance(document, dict):
        return document
    if strict:
        raise FormatError("The broker's answer is no JSON object.")
    return {}


def _base64(data: bytes) -> str:
    return b64encode(data).decode()


def _text(document: dict[str, Any], name: str) -> str:
    value = document.get(name)
    if not isinstance(value, str):
        raise FormatError(f"The broker's answer holds no {name}.")
    return value


def _round(document: dict[str, Any]) -> int | None:
    found = document.get("round")
    if found is not None and type(found) is not int:
        raise FormatError("The broker's answer holds no round.")
    return found


def _binary(document: dict[str, Any], name: str) -> bytes:
    try:
        return b64decode(_text(document, name), validate=True)
    except Base64Error as error:
        raise FormatError(f"The {name} in the broker's answer is no base64.") from error

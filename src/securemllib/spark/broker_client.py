"""The host's side of the key broker's HTTP interface: it carries signed and sealed records, and opens none."""

import atexit
import time
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import httpx

from securemllib.errors import FormatError, UnavailableError, error_from_code
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """An accepted job, and the challenge for its first enclave where it takes one."""

    job_id: str
    asked: Asked | None


class BrokerClient:
    """Requests to one broker over one connection that is kept open.

    Args:
        address: Which broker.
    """

    def __init__(self, address: BrokerAddress) -> None:
        self._address = address
        self._http = httpx.Client(base_url=address.url, timeout=_TIMEOUT_SECONDS, verify=_context(address))

    def close(self) -> None:
        """Hang up."""
        self._http.close()

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
        session = response.cookies.get("kbs-session-id")
        extra = _document(response).get("extra-params")
        if session is None or not isinstance(extra, dict):
            raise FormatError("The broker's answer holds no challenge.")
        # One connection serves many exchanges, so the cookie goes with each request and is not kept.
        self._http.cookies.clear()
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
        """Hand in the analyst's signed notice that the results of a job without a model have come: it gets no more keys."""
        self._request("POST", f"/v1/jobs/{job_id}/finish", {"end": _base64(end.to_bytes())})

    def release(self, job: Signed) -> tuple[Signed, ...]:
        """Hand in a signed release and return the model's keys, each wrapped for one recipient."""
        keys = self._call("POST", "/v1/releases", {"job": _base64(job.to_bytes())}).get("keys")
        if not isinstance(keys, list):
            raise FormatError("The broker's answer holds no keys.")
        return tuple(Signed.from_bytes(_binary({"key": key}, "key")) for key in keys)

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None, *, session: str = "", token: str = "") -> dict[str, Any]:
        return _document(self._request(method, path, body, session=session, token=token))

    def _request(self, method: str, path: str, body: dict[str, Any] | None = None, *, session: str = "", token: str = "") -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if session:
            headers["Cookie"] = f"kbs-session-id={session}"
        deadline, pause = time.monotonic() + self._address.wait, _FIRST_PAUSE_SECONDS
        found: Exception | None = None
        response: httpx.Response | None
        while True:
            try:
                response = self._http.request(method, path, json=body, headers=headers)
            except httpx.TransportError as error:
                response, found = None, error
            except httpx.HTTPError as error:
                raise UnavailableError(f"The request to the broker at {self._address.url} failed.", code="unavailable.broker") from error
            if response is not None and response.status_code not in _PASSING:
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


@lru_cache(maxsize=16)
def broker_client(address: BrokerAddress) -> BrokerClient:
    """Return this process's client of a broker: all its requests share a connection, which ends with the process."""
    client = BrokerClient(address)
    # Sessions come and go while others use it, so none of them hangs up.
    atexit.register(client.close)
    return client


def _context(address: BrokerAddress) -> Any:
    if not address.ca:
        return True
    import ssl

    return ssl.create_default_context(cafile=address.ca)


def _checked(response: httpx.Response) -> httpx.Response:
    if response.status_code < _ERRORS:
        return response
    problem = _document(response, strict=False)
    code, reason, step = (problem.get(name) for name in ("code", "reason", "next_step"))
    if not isinstance(code, str) or not isinstance(reason, str):
        raise UnavailableError(f"The broker answered with status {response.status_code} and no reason.", code="unavailable.broker")
    raise error_from_code(code, reason, step if isinstance(step, str) else None)


def _retry_after(response: httpx.Response | None) -> float:
    """Return the seconds that an answer asks to wait for, 0 where it does not say."""
    asked = "" if response is None else response.headers.get("Retry-After", "")
    return float(asked) if asked.isdecimal() else 0.0


def _document(response: httpx.Response, *, strict: bool = True) -> dict[str, Any]:
    try:
        document = response.json()
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

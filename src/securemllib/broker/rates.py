"""How many requests one address, and one identity, may make. Counts are this process's own: two brokers together allow twice as many."""

import ipaddress
import math
import threading
import time

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from securemllib.errors import RateLimitError, UsageError

__all__ = ["ADDRESS_RATE", "IDENTITY_RATE", "REFUSAL_RATE", "Rates"]

# One core answers about 100 short requests a second; a whole cluster may stand behind one address.
ADDRESS_RATE = "6000/minute"
# Each refused decision leaves an entry in the audit log. Two hundred enclaves that come too late are an ordinary minute.
REFUSAL_RATE = "600/minute"
# An analyst's script submits a job a fit; ten a second is a grid search in full swing.
IDENTITY_RATE = "600/minute"
# Whoever has one IPv6 address has its whole subnet (RFC 6177).
_IPV6_PREFIX = 64
_SWEEP_SECONDS = 10.0
_WHAT = {"address": "Too many requests of", "refused": "Too many refused requests of", "identity": "Too many requests signed by"}


class Rates:
    """Counts requests over a sliding minute, or over what each rate says.

    Args:
        address: The rate of requests of one address, such as ``6000/minute``.
        refusals: The rate of refused requests of one address.
        identity: The rate of requests that one identity signed.

    Raises:
        UsageError: A rate is none.
    """

    def __init__(self, *, address: str = ADDRESS_RATE, refusals: str = REFUSAL_RATE, identity: str = IDENTITY_RATE) -> None:
        self._address, self._refusals, self._identity = _rate(address), _rate(refusals), _rate(identity)
        self._storage, self._swept = MemoryStorage(), time.monotonic()
        # The library starts a thread at a count, to forget old ones, unless one is at it: longer than all else of a count.
        self._storage.timer = threading.main_thread()  # type: ignore[assignment]
        self._limiter = SlidingWindowCounterRateLimiter(self._storage)

    def check_address(self, address: str) -> None:
        """Count a request of an address; `RateLimitError` where it, or its refused requests, are over the rate."""
        network = _network(address)
        self._sweep()
        if not self._limiter.test(self._refusals, "refused", network):
            raise self._exceeded(self._refusals, "refused", network)
        if not self._limiter.hit(self._address, "address", network):
            raise self._exceeded(self._address, "address", network)

    def count_refusal(self, address: str) -> None:
        """Count a request that was refused."""
        self._limiter.hit(self._refusals, "refused", _network(address))

    def check_identity(self, fingerprint: str) -> None:
        """Count a request that an identity signed, its signature verified; `RateLimitError` where it is over the rate."""
        if not self._limiter.hit(self._identity, "identity", fingerprint):
            raise self._exceeded(self._identity, "identity", fingerprint)

    def _sweep(self) -> None:
        """Forget the counts of windows that are over, once in a while: addresses that are never seen again would fill the memory."""
        if (now := time.monotonic()) - self._swept < _SWEEP_SECONDS:
            return
        self._swept = now
        for key in list(self._storage.expirations):
            self._storage.get(key)

    def _exceeded(self, rate: RateLimitItem, kind: str, name: str) -> RateLimitError:
        error = RateLimitError(f"{_WHAT[kind]} {name}: {rate} are answered.", code=f"{RateLimitError.code}.{kind}")
        error.retry_after = max(1, math.ceil(self._limiter.get_window_stats(rate, kind, name).reset_time - time.time()))
        return error


def _rate(text: str) -> RateLimitItem:
    try:
        return parse(text)
    except ValueError:
        raise UsageError(f"{text!r} is no rate.", next_step="Write it like 600/minute.") from None


def _network(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 6:
        # A socket for both kinds, and proxies, name clients of IPv4 so; all of them lie in one subnet.
        return str(parsed.ipv4_mapped or ipaddress.ip_network((parsed, _IPV6_PREFIX), strict=False))
    return address

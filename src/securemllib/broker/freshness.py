"""Refuses signed requests from another time: a replay, or a clock that is wrong."""

from securemllib.errors import FreshnessError

__all__ = ["CLOCK_SKEW_SECONDS", "JOB_SECONDS", "REQUEST_SECONDS", "check_created"]

# Kerberos allows its clocks five minutes (RFC 4120, section 1.6), and every machine that keeps time by the network does better.
CLOCK_SKEW_SECONDS = 300
# An answer is given at once, so a request is as old as its way here and the difference of clocks.
REQUEST_SECONDS = CLOCK_SKEW_SECONDS
# A job may wait in a queue for its cluster over night.
JOB_SECONDS = 86_400


def check_created(created: int, now: int, *, seconds: int) -> None:
    """Refuse what was signed longer ago than ``seconds``, or further ahead than clocks may differ; `FreshnessError`."""
    if not now - seconds <= created <= now + CLOCK_SKEW_SECONDS:
        raise FreshnessError(
            f"It was signed at {created}; the broker's clock says {now}, and takes what is at most {seconds} seconds old.",
            next_step="Set the clocks right, and sign a new request.",
            code="integrity.freshness.time",
        )

"""Does the cost model add up as it is written down?"""

from dataclasses import replace
from pathlib import Path

import pytest

from securemllib.algorithms.registry import ALGORITHMS
from securemllib.cli.sgx.access import SHARES
from securemllib.cli.sgx.model import CONSTANTS, Counts, exits, missing_share, predict
from securemllib.cli.sgx.workloads import WORKLOADS
from securemllib.errors import UsageError

PAGE = Path(__file__).parents[2] / "docs" / "_tables" / "sgx-cost.md"

NOTHING = Counts(
    seconds=1.0, frames_in=0, frames_out=0, bytes_in=0, bytes_out=0, waits=0, working_set=0, table=0, random_share=0.0, enclaves=1
)


def test_exits_by_hand() -> None:
    """10 frames in at 3 calls, 20 out at 2, 65,536 x 5 bytes in, 65,536 x 2 + 1 out, 3 waits: 30 + 40 + 5 + 2 + 3."""
    counts = replace(NOTHING, frames_in=10, frames_out=20, bytes_in=5 * 65_536, bytes_out=2 * 65_536 + 1, waits=3)
    assert exits(counts) == 80


def test_the_high_end_by_hand() -> None:
    """Every term of the unkind end, worked out on paper for one job of two CPU seconds."""
    counts = Counts(
        seconds=2.0,
        frames_in=100,
        frames_out=100,
        bytes_in=95_000_000,
        bytes_out=0,
        waits=51,
        working_set=1,
        table=2_500_000,
        random_share=0.5,
        enclaves=2,
    )
    found = predict(counts, "high")
    # 300 + 200 + 1,449 (95e6 / 65,536) + 51 = 2,000 calls and 2 s x 250 interrupts: 2,500 exits of 8 microseconds.
    assert found.exits == pytest.approx(0.02)
    # 95 MB at 0.95 GB/s.
    assert found.crossing == pytest.approx(0.1)
    # A table of twice the cache misses half the time: half of half of 2 s is 0.5 s, five times as long.
    assert found.random_missed == pytest.approx(0.5)
    assert found.random == pytest.approx(2.0)
    # 8 % of the other 1.5 s.
    assert found.streaming == pytest.approx(0.12)
    assert found.attestation == pytest.approx(2 * 0.00078)
    assert found.overhead == pytest.approx(1.0 + (0.02 + 0.1 + 2.0 + 0.12 + 0.00156) / 2.0)


def test_the_low_end_by_hand() -> None:
    """The kind end charges exits, copies and quotes alone: 1,000 waits of 5 microseconds, 250 interrupts, 3.8 GB at 3.8 GB/s."""
    found = predict(replace(NOTHING, waits=1000, bytes_in=0, bytes_out=0, table=10**9, random_share=1.0), "low")
    assert found.exits == pytest.approx(0.00625)
    assert (found.streaming, found.random) == (0.0, 0.0)
    moved = predict(replace(NOTHING, bytes_out=3_800_000_000), "low")
    assert moved.crossing == pytest.approx(1.0)


@pytest.mark.parametrize(("table", "share"), [(0, 0.0), (1_500_000, 0.0), (2_000_000, 0.25), (6_000_000, 0.75)])
def test_a_table_misses_as_far_as_it_is_larger_than_the_cache(table: int, share: float) -> None:
    """Tables within the cache miss nothing; larger ones the part that does not fit."""
    assert missing_share(table, 1.5e6) == pytest.approx(share)


@pytest.mark.parametrize("field", ["frames_in", "frames_out", "bytes_in", "bytes_out", "waits"])
@pytest.mark.parametrize("bound", ["low", "high"])
def test_more_costs_more(field: str, bound: str) -> None:
    """Each count that grows makes the prediction grow, at both ends, and the high end is above the low one."""
    more = replace(NOTHING, **{field: 10**7})
    assert predict(more, bound).overhead > predict(NOTHING, bound).overhead >= 1.0
    assert predict(more, "high").overhead > predict(more, "low").overhead


@pytest.mark.parametrize(
    "wrong",
    [{"seconds": 0.0}, {"seconds": float("nan")}, {"waits": -1}, {"random_share": 1.1}, {"random_share": float("nan")}, {"enclaves": 0}],
)
def test_impossible_counts_are_refused(wrong: dict) -> None:
    """A prediction from counts that no job has is refused; the same counts without the mistake are taken."""
    assert predict(NOTHING, "high").overhead > 1.0
    with pytest.raises(UsageError):
        replace(NOTHING, **wrong)


def test_each_constant_has_a_source_and_its_kind_end() -> None:
    """Every constant says where it is from, and its high end predicts no less than its low end."""
    assert all(constant.source and constant.unit for constant in CONSTANTS.values())
    larger_is_kinder = {"crossing", "cache"}
    assert all(CONSTANTS[name].low > CONSTANTS[name].high for name in larger_is_kinder)
    assert all(each.low <= each.high for name, each in CONSTANTS.items() if name not in larger_is_kinder)


def test_each_workload_declares_its_random_access() -> None:
    """The eight workloads of the published system are there, each with a share of random access and the reason for it."""
    assert len(WORKLOADS) == 8
    assert {workload.operation for workload in WORKLOADS} <= SHARES.keys()


def test_each_algorithm_declares_its_random_access() -> None:
    """Every algorithm that a job may name has a share of random access and the reason for it, and no other has; the page says the same."""
    assert SHARES.keys() == ALGORITHMS.keys()
    assert all(0.0 <= each.share <= 1.0 and each.reason for each in SHARES.values())
    page = PAGE.read_text(encoding="utf-8")
    assert all(f"| {name} | {each.share:g} | {each.reason} |\n" in page for name, each in SHARES.items())

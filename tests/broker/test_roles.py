"""Does a job that names too few columns get a key?"""

import pytest
from broker_world import World

from securemllib.algorithms.registry import ALGORITHMS
from securemllib.errors import UsageError
from securemllib.policy.roles import READ


def test_every_operation_says_what_it_reads() -> None:
    """The table has a line for each algorithm that a job may name, and none for another."""
    assert READ.keys() == ALGORITHMS.keys()
    assert all(READ.values())


def test_a_job_without_a_column_that_it_reads_is_refused_before_any_key(world: World) -> None:
    """A job with its features is accepted; the same one without them is refused by the broker, which names the role, and is no job."""
    world.enrol()
    assert world.submit()
    with pytest.raises(UsageError, match="features") as refused:
        world.submit(inputs={"weight": "age"})
    assert refused.value.error_code == "usage.roles"
    assert [event["decision"] for event in world.events()][-2:] == ["accepted", "refused"]

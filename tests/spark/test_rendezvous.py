"""What do the tasks of a stage meet at the driver, and what does the driver learn of them?"""

import socket
import threading
import time
from contextlib import ExitStack
from dataclasses import replace

import pytest

from securemllib.crypto.identity import PrivateIdentity
from securemllib.errors import FormatError, PolicyError, UnavailableError
from securemllib.spark import gathering as gatherings
from securemllib.spark import rounds
from securemllib.spark.broker_client import Asked
from securemllib.spark.cluster import Cluster
from securemllib.spark.relay_job import CROSSED, FINISHED, TaskRow
from securemllib.spark.relay_messages import Begin, Join, Peers, Progress, Stop
from securemllib.spark.rendezvous import Rendezvous
from securemllib.spark.sockets import connect
from securemllib.wire.attestation import Challenge
from securemllib.wire.framing import receive, send
from tests.spark.test_fewer_tasks import JOB as RELAY_JOB

JOB = "j" * 64


@pytest.fixture
def meeting():
    """A rendezvous and a function that lets a task join it."""
    with ExitStack() as stack:
        place = Rendezvous("127.0.0.1", "127.0.0.1")
        stack.callback(place.stop)

        def join(task, tasks=2, job=JOB, node="here"):
            connection = stack.enter_context(connect(*place.address))
            connection.settimeout(10.0)
            send(connection, Join(job_id=job, task=task, tasks=tasks, node=node, host="127.0.0.1", port=1000 + task))
            return connection

        yield place, join


def told(connection):
    """Return what the driver says."""
    return receive(connection, (Peers, Stop))[0]


def leave(connection, *rows):
    """Send rows as a task does, and what it counted."""
    for kind, payload in (*rows, (CROSSED, b"counted")):
        send(connection, TaskRow(kind=kind, number=0, payload=b""), payload)


def is_hung_up(connection):
    """Return whether the driver has closed the connection without a word, and did not only keep silent."""
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionResetError:
        return True


def is_waiting(connection):
    """Return whether the driver says nothing yet."""
    connection.settimeout(0.2)
    try:
        return connection.recv(1, socket.MSG_PEEK) == b"never"
    except TimeoutError:
        return True
    finally:
        connection.settimeout(10.0)


def test_tasks_begin_once_the_jobs_are_accepted_and_all_are_there(meeting):
    """Neither an unaccepted job nor half a stage begins; then all are told the same place of task 0."""
    place, join = meeting
    gathering = place.open(JOB, lambda *_: None)
    gathering.begin(2)
    tasks = [join(0), join(1)]
    assert all(is_waiting(task) for task in tasks)
    gathering.accept((None,))
    first, second = (told(task) for task in tasks)
    assert first == second
    assert (first.port, first.asked) == (1000, (None,))


def test_an_executor_gets_the_shares_that_it_had(meeting):
    """Tasks that Spark deals to other executors than before swap their shares; new executors take what is left, and all are dealt once."""
    place, join = meeting

    def dealt(*nodes):
        gathering = place.open(JOB, lambda *_: None)
        gathering.begin(len(nodes))
        gathering.accept((None,))
        found = [told(task).places for task in [join(task, len(nodes), node=node) for task, node in enumerate(nodes)]]
        place.close(JOB)
        assert len(set(found)) == 1
        return found[0]

    assert dealt("a", "b", "c") == (0, 1, 2)
    assert dealt("c", "a", "b") == (2, 0, 1)
    assert dealt("b", "new", "a") == (1, 2, 0)
    assert dealt("c", "b", "new") == (0, 1, 2)
    assert dealt("d", "d") == (0, 1)
    assert dealt("e", "d") == (1, 0)
    assert dealt("d", "e") == (0, 1)


def test_tasks_are_told_who_runs_beside_the_first(meeting):
    """Tasks on task 0's executor share the enclave that aggregates, and those on others do not."""
    place, join = meeting
    for nodes, beside in ((("a", "b", "a"), (True, False, True)), (("a", "b", "b"), (True, False, False))):
        gathering = place.open(JOB, lambda *_: None)
        gathering.begin(len(nodes))
        gathering.accept((None,))
        found = [told(task).beside for task in [join(task, len(nodes), node=node) for task, node in enumerate(nodes)]]
        place.close(JOB)
        assert found == [beside] * len(nodes)


def begun(connection):
    """Return what the driver says to a task that need not meet the others."""
    return receive(connection, (Begin, Stop))[0]


def test_tasks_that_need_not_meet_begin_once_the_job_is_accepted(meeting):
    """Then each does, also late or again, with the place that it has; and one executor alone has the challenge."""
    place, join = meeting
    admission = place.admit(JOB, 3)
    early = join(1, 3, node="b")
    assert is_waiting(early)
    asked = Asked(session="s", challenge=Challenge(nonce=bytes(32), broker=PrivateIdentity.generate("b").public, job_id=JOB))
    admission.accept(asked)
    assert begun(early) == Begin(place=0, asked=asked)
    assert begun(join(0, 3, node="a")) == Begin(place=1, asked=None)
    assert begun(join(2, 3, node="b")) == Begin(place=2, asked=asked)
    assert begun(join(1, 3, node="a")) == Begin(place=0, asked=None)


def test_tasks_that_need_not_meet_take_the_shares_of_their_executors(meeting):
    """Each gets a place that its executor had in a stage before, then what is left, and the same one when it runs again."""
    place, join = meeting
    gathering = place.open(JOB, lambda *_: None)
    gathering.begin(2)
    gathering.accept((None,))
    assert [told(task).places for task in (join(0, node="a"), join(1, node="b"))] == [(0, 1)] * 2
    place.close(JOB)
    admission = place.admit(JOB, 2)
    tasks = [join(0, node="b"), join(1, node="a")]
    assert all(is_waiting(task) for task in tasks)
    admission.accept(None)
    assert [begun(task).place for task in tasks] == [1, 0]
    assert begun(join(0, node="a")).place == 1
    place.close(JOB)
    place.admit(JOB, 2).accept(None)
    assert [begun(join(task, node="b")).place for task in (0, 1)] == [1, 0]
    place.close(JOB)
    place.admit(JOB, 2).accept(None)
    assert [begun(join(task, node=node)).place for task, node in ((0, "new"), (1, "b"))] == [0, 1]


def test_tasks_of_a_refused_job_do_not_begin(meeting):
    """Those that wait, those that come, and those that come when nobody expects the job are sent home; a foreign one is hung up on."""
    place, join = meeting
    admission = place.admit(JOB, 2)
    waiting = join(0)
    assert is_waiting(waiting)
    assert is_hung_up(join(0, tasks=3))
    assert is_hung_up(join(2))
    admission.dismiss()
    assert [begun(task) for task in (waiting, join(1))] == [Stop(), Stop()]
    place.close(JOB)
    assert begun(join(0)) == Stop()


def test_rows_are_there_when_every_task_sent_its_last(meeting):
    """The driver has them before the stage is over, with the rounds on the way."""
    place, join = meeting
    seen = []
    gathering = place.open(JOB, lambda *progress: seen.append(progress))
    gathering.begin(2)
    gathering.accept((None,))
    tasks = [join(0), join(1)]
    for task in tasks:
        assert isinstance(told(task), Peers)
    send(tasks[0], Progress(round=3, jobs=1, read_again=5))
    leave(tasks[0], (FINISHED, b"model"))
    found = []
    waiting = threading.Thread(target=lambda: found.extend(gathering.rows()), daemon=True)
    waiting.start()
    time.sleep(0.2)
    assert not found
    leave(tasks[1])
    waiting.join(10.0)
    assert [(row.kind, row.payload) for row in found] == [(FINISHED, b"model"), (CROSSED, b"counted"), (CROSSED, b"counted")]
    assert seen == [(3, 5, 1)]


def test_only_a_whole_attempt_counts(meeting):
    """Rows of an attempt that was lost are no results, and tasks that waited in it are not taken for those of the next."""
    place, join = meeting
    gathering = place.open(JOB, lambda *_: None)
    gathering.accept((None,))
    gathering.begin(2)
    lost = [join(0), join(1)]
    before = told(lost[0]).generation
    send(lost[0], TaskRow(kind=FINISHED, number=0, payload=b""), b"lost")
    for task in lost:
        task.close()
    gathering.begin(2)
    stale = join(1)
    assert is_waiting(stale)
    gathering.begin(2)
    tasks = [join(0), join(1)]
    assert told(tasks[0]).generation == told(tasks[1]).generation != before
    leave(tasks[0], (FINISHED, b"model"))
    leave(tasks[1])
    assert [row.payload for row in gathering.rows() if row.kind == FINISHED] == [b"model"]


def test_a_task_that_is_lost_after_the_results_takes_nothing_with_it(meeting):
    """Once task 0 has sent them they are there, although another task never says what it counted; not before."""
    place, join = meeting
    gathering = place.open(JOB, lambda *_: None)
    gathering.accept((None,))
    gathering.begin(2)
    tasks = [join(0), join(1)]
    assert all(isinstance(told(task), Peers) for task in tasks)
    leave(tasks[0], (FINISHED, b"model"))
    found = []
    waiting = threading.Thread(target=lambda: found.extend(gathering.rows()), daemon=True)
    waiting.start()
    time.sleep(0.2)
    assert not found
    tasks[1].close()
    waiting.join(10.0)
    assert [row.kind for row in found] == [FINISHED, CROSSED]


def test_tasks_that_wait_for_others_in_vain_are_sent_home(meeting, monkeypatch):
    """Where Spark does not start all tasks, those that are there end after a while, so that as many can begin without the others."""
    monkeypatch.setattr(gatherings, "_LOOK_SECONDS", 0.05)
    place, join = meeting
    gathering = place.open(JOB, lambda *_: None, 1.0)
    waiting = threading.Thread(target=gathering.rows, daemon=True)
    waiting.start()
    gathering.begin(3)
    there = [join(0, 3), join(2, 3)]
    time.sleep(1.5)
    # The broker has not judged yet: that is waited for, however long it takes.
    assert all(is_waiting(task) for task in there)
    assert gathering.came == 0
    gathering.accept((None,))
    assert [told(task) for task in there] == [Stop(), Stop()]
    assert told(join(1, 3)) == Stop()
    assert gathering.came == 2
    gathering.begin(2)
    assert gathering.came == 0
    there = [join(0), join(1)]
    assert all(isinstance(told(task), Peers) for task in there)
    leave(there[0], (FINISHED, b"model"))
    leave(there[1])
    waiting.join(10.0)
    assert not waiting.is_alive()


def test_a_second_attempt_of_a_task_waits_while_the_first_is_at_work(meeting, monkeypatch):
    """Spark may start a task twice: the second is sent home with the results, and ends nothing before."""
    monkeypatch.setattr(gatherings, "_LOOK_SECONDS", 0.05)
    place, join = meeting
    gathering = place.open(JOB, lambda *_: None, 0.2)
    waiting = threading.Thread(target=gathering.rows, daemon=True)
    waiting.start()
    gathering.begin(2)
    gathering.accept((None,))
    tasks = [join(0), join(1)]
    assert all(isinstance(told(task), Peers) for task in tasks)
    second = join(1)
    time.sleep(0.6)
    assert is_waiting(second)
    assert gathering.came == 0
    leave(tasks[0], (FINISHED, b"model"))
    leave(tasks[1])
    waiting.join(10.0)
    place.close(JOB)
    assert told(second) == Stop()


@pytest.mark.parametrize(("task", "tasks"), [(2, 2), (-1, 2), (0, 1), (0, 3), (0, 0)])
def test_a_task_that_was_not_sent_out_does_not_take_part(meeting, task, tasks):
    """One beyond the stage's, or of a stage of another size, is hung up on, and the others meet without it."""
    place, join = meeting
    gathering = place.open(JOB, lambda *_: None)
    gathering.begin(2)
    gathering.accept((None,))
    assert is_hung_up(join(task, tasks))
    first, second = join(0), join(1)
    assert isinstance(told(first), Peers)
    assert isinstance(told(second), Peers)


def test_tasks_leave_no_more_than_their_results(meeting):
    """A task that goes on sending rows is hung up on, so that the driver's memory is bounded by its jobs; the results alone are taken."""
    place, join = meeting
    gathering = place.open(JOB, lambda *_: None)
    gathering.begin(1)
    gathering.accept((None,))
    greedy = join(0, tasks=1)
    assert isinstance(told(greedy), Peers)
    for _ in range(3):
        send(greedy, TaskRow(kind=FINISHED, number=0, payload=b""), b"model")
    assert is_hung_up(greedy)
    honest = join(0, tasks=1)
    assert isinstance(told(honest), Peers)
    leave(honest, (FINISHED, b"model"))
    assert [row.payload for row in gathering.rows()] == [b"model", b"counted"]


def test_tasks_of_a_refused_job_are_sent_home(meeting):
    """Those that wait, those that come later, and those of jobs that nobody knows: none of them fails, so that Spark runs none again."""
    place, join = meeting
    place.open(JOB, lambda *_: None).begin(2)
    waiting = join(0)
    assert is_waiting(waiting)
    place.close(JOB)
    for task in (waiting, join(1), join(0, job="unknown")):
        assert isinstance(told(task), Stop)


def test_tasks_at_work_are_hung_up_on_when_nobody_waits_any_more(meeting):
    """So a fit that the user interrupted ends with its round; a task that left its rows, when all have, is let go in its own time."""
    place, join = meeting
    for finished in (False, True):
        gathering = place.open(JOB, lambda *_: None)
        gathering.begin(1)
        gathering.accept((None,))
        task = join(0, tasks=1)
        assert isinstance(told(task), Peers)
        if finished:
            leave(task, (FINISHED, b"model"))
            assert len(gathering.rows()) == 2
        else:
            assert is_waiting(task)
        place.close(JOB)
        assert is_hung_up(task)


def test_what_ended_the_stage_is_raised(meeting, monkeypatch):
    """A stage that failed says why; one that ended well and left nothing is noticed."""
    monkeypatch.setattr(gatherings, "_ARRIVAL_SECONDS", 0.1)
    place, _ = meeting
    failing, silent = (place.open(job, lambda *_: None) for job in ("a", "b"))
    with failing.ending():
        raise UnavailableError("lost", code="unavailable.stage")
    with silent.ending():
        pass
    with pytest.raises(UnavailableError, match="lost"):
        failing.rows()
    with pytest.raises(FormatError, match="did not arrive"):
        silent.rows()


def test_a_lost_stage_that_nobody_waits_for_is_not_run_again():
    """Once its results are here, or its job was refused, a stage that Spark loses stays lost."""
    gathering = gatherings.Gathering(lambda *_: None)
    gathering.dismiss()

    class Losing(rounds.Engine):
        ran = 0

        def _run(self, function, tasks, barrier):
            self.ran += 1
            raise UnavailableError("lost", code="unavailable.stage")

    engine = Losing(None, None)
    job = type("Job", (), {"tasks": 1})()
    with pytest.raises(UnavailableError):
        engine._stage((job,), gathering)
    assert engine.ran == 1


def _without_the_package():
    raise ModuleNotFoundError("No module named 'securemllib'")


def _failing():
    raise ValueError("No module named 'securemllib'")


@pytest.mark.parametrize(("task", "code"), [(_without_the_package, "unavailable.package"), (_failing, "unavailable.stage")])
def test_workers_without_the_package_are_told(spark, task, code):
    """A task whose Python lacks a module names it; any other failure is a lost stage."""
    with pytest.raises(UnavailableError) as caught:
        rounds.Engine(spark, Cluster(spark))._run(task, 1, barrier=False)
    assert caught.value.error_code == code


@pytest.mark.parametrize("stage", [rounds.Stage.BARRIER, rounds.Stage.RESIDENT])
def test_a_refused_job_raises_the_refusal_and_leaves_the_session_working(spark, meeting, stage):
    """Spark has begun the stage when the broker refuses: its tasks end, and the slots are free again."""
    del meeting
    engine = rounds.Engine(spark, Cluster(spark))
    where = engine.rendezvous()

    def refused():
        raise PolicyError("no")

    jobs = (replace(RELAY_JOB, rendezvous=where, tasks=2),)
    for _ in range(2):
        with pytest.raises(PolicyError, match="no"):
            engine.fit(jobs, refused, "refused", stage=stage)
        with pytest.raises(PolicyError, match="no"):
            engine.rows(jobs[0], refused, 1, "refused")
    for running in engine._stages:
        running.join(60.0)
    engine.close()
    assert not any(running.is_alive() for running in engine._stages)
    assert spark.sparkContext.parallelize(range(2), 2).barrier().mapPartitions(lambda rows: rows).count() == 2

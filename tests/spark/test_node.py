"""Whose keys does an executor's enclave keep?"""

import json
import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from securemllib.spark import node
from securemllib.wire.framing import receive, send
from securemllib.wire.task import End, Ended

IDLE = 60.0


@pytest.fixture
def enclave():
    """An enclave that only drops keys: its address, and the jobs whose keys it dropped."""
    ended, listener = [], socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                request, _ = receive(connection, (End,))
                ended.append(request.job_id)
                send(connection, Ended())

    threading.Thread(target=serve, daemon=True).start()
    yield f"127.0.0.1:{listener.getsockname()[1]}", ended
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


@pytest.fixture
def killed():
    """The id of a process that was."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def note(folder, address, name, users, *, age=0.0):
    """Leave the note of a job's tasks, as they do, and return it."""
    path = node._users(folder, name)
    path.write_text(json.dumps({"generation": "g", "address": address, "head": None, "job": name, "users": users}))
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_keys_of_killed_tasks_are_dropped_by_the_next_task(tmp_path, enclave, killed):
    """A job whose tasks were all killed loses its keys when any task comes; one with a living task, or between two rounds, keeps them."""
    address, ended = enclave
    gone = [note(tmp_path, address, "killed", [killed, killed]), note(tmp_path, address, "left long ago", [], age=IDLE + 10)]
    stay = [note(tmp_path, address, "running", [killed, os.getpid()], age=IDLE + 10), note(tmp_path, address, "between rounds", [])]
    node._reap(tmp_path, IDLE)
    assert sorted(ended) == ["killed", "left long ago"]
    assert [path.exists() for path in gone + stay] == [False, False, True, True]


def test_the_last_living_task_drops_the_keys(tmp_path, enclave, killed):
    """A task that was killed does not hold up the goodbye of the one beside it; a living one does, and so does a round to come."""
    address, ended = enclave
    node._leave(note(tmp_path, address, "shared", [os.getpid(), os.getppid()]), "g", False)
    node._leave(note(tmp_path, address, "kept", [os.getpid()]), "g", True)
    assert ended == []
    node._leave(note(tmp_path, address, "over", [os.getpid(), killed]), "g", False)
    assert ended == ["over"]


def test_a_lost_enclave_holds_up_nobody(tmp_path, killed):
    """Keys in an enclave that is gone are forgotten, and the task that found their note goes on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    path = note(tmp_path, address, "killed", [killed])
    node._reap(tmp_path, IDLE)
    assert not path.exists()

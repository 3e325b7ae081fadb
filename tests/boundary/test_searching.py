"""Would the search for canaries find them, if they were there?"""

import base64
import os
import subprocess
import sys

import numpy as np
import pytest

from securemllib.cli.demo import searching
from securemllib.cli.demo.searching import Canaries, Finding, search_bytes, search_files, search_memory
from securemllib.cli.demo.story import Search, verify
from securemllib.errors import IntegrityError

HOLDER = """
import base64, struct, sys
held = base64.b64decode(sys.stdin.readline())
sys.stdout.write("held\\n")
sys.stdout.flush()
sys.stdin.readline()
"""


@pytest.fixture
def canaries():
    """Return planted values."""
    return Canaries.generate((6.0, 4.0))


def written(canaries):
    """Return the values as different software writes them."""
    first, second = canaries.numbers
    return {
        "CSV": f"{canaries.text}-17,0.5,1.0".encode(),
        "CSV of numbers": f"a,{first!r},1.0".encode(),
        "JSON": f'{{"x": {second!r}}}'.encode(),
        "a Java string of two bytes a character": f"x{canaries.text}".encode("utf-16-le"),
        "a column of float64": np.array([0.5, first, 0.25]).tobytes(),
        "Java's serialised double": np.array([second], ">f8").tobytes(),
        "a row of float32": np.array([1.0, first, second], np.float32).tobytes(),
        **{f"base64 behind {n} bytes": base64.b64encode(b"\x07" * n + canaries.text.encode() + b"-17") for n in range(3)},
    }


def test_every_form_is_found_once_and_nothing_else_is(canaries):
    """Whatever wrote a canary, exactly one form of it is counted; the same writing of other values counts nothing."""
    other = written(Canaries.generate((6.0, 4.0)))
    for name, data in written(canaries).items():
        assert search_bytes(canaries, b"before" + data + b"behind").total == 1, name
        assert search_bytes(canaries, other[name]).total == 0, name


def test_a_value_across_two_chunks_is_found_once(canaries, tmp_path, monkeypatch):
    """Wherever a file is cut into chunks, each value in it is counted once."""
    monkeypatch.setattr(searching, "_CHUNK", 64)
    for position in range(40, 90):
        (tmp_path / "file").write_bytes(b"\x01" * position + canaries.text.encode() + bytes(300) + canaries.text.encode())
        assert search_files(canaries, [tmp_path]).hits == {"text": 2}


def test_a_name_of_a_file_is_searched_too(canaries, tmp_path):
    """A value in a file's name is found, though the file be empty; a file with another name holds nothing."""
    (tmp_path / "other").touch()
    assert search_files(canaries, [tmp_path]).total == 0
    (tmp_path / f"{canaries.text}-1").touch()
    assert search_files(canaries, [tmp_path]).total == 1


@pytest.mark.parametrize("planted", [True, False], ids=["held", "not held"])
def test_the_memory_of_another_process_is_searched(canaries, planted):
    """A process that holds a value is told from one that does not."""
    data = np.array([canaries.numbers[0]]).tobytes() if planted else os.urandom(8)
    with subprocess.Popen([sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdin.write(base64.b64encode(data) + b"\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"held\n"
        found = search_memory(canaries, [process.pid])
        process.stdin.close()
    assert found.denied == 0
    assert found.searched > 2**20
    assert (found.hits.get("first float64", 0) > 0) is planted


def test_a_process_that_is_gone_counts_as_not_read(canaries):
    """What could not be read is never taken for clean."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    assert search_memory(canaries, [process.pid]).denied == 1


@pytest.mark.parametrize(
    ("host", "control", "denied", "code"),
    [(0, 5, 0, None), (1, 5, 0, "integrity.leak"), (0, 0, 0, "integrity.blind_search"), (0, 0, 1, None)],
    ids=["clean", "a leak", "a blind search", "a control that may not be read"],
)
def test_the_demonstration_fails_where_the_host_saw_something(host, control, denied, code):
    """One hit on the host, or a control without any that could be read, is an error; a clean host beside a control with hits is none."""
    searches = (
        Search(place="frames", finding=Finding(hits={"text": host}), control=False),
        Search(place="plaintext", finding=Finding(hits={"text": control}, denied=denied), control=True),
    )
    if code is None:
        verify(searches)
    else:
        with pytest.raises(IntegrityError) as caught:
            verify(searches)
        assert caught.value.error_code == code

"""Do processes that change one key file at once take turns?"""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from securemllib.crypto.keys import DataKey
from securemllib.errors import UnavailableError
from securemllib.kms.file import FileKey
from securemllib.kms.key import Binding
from securemllib.kms.turns import turn

BINDING = Binding(tenant="t", dataset_id="d", version=1)
PROCESSES, ROTATIONS = 3, 20
ROTATING = """
import sys
from pathlib import Path
from securemllib.kms.file import FileKey
key = FileKey.open(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for _ in range(int(sys.argv[2])):
    print(key.rotate(), flush=True)
"""
HOLDING = """
import sys
from pathlib import Path
from securemllib.kms.turns import turn
with turn(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


def started(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Return a process of this interpreter that has said its first word."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def test_no_rotation_is_lost(tmp_path: Path) -> None:
    """Processes that rotate one key at once make a version each time, and what was wrapped before and meanwhile opens after."""
    path = tmp_path / "kek"
    key, secret = FileKey.create(path, None), DataKey.generate()
    wrapped = [key.wrap(secret, BINDING)]
    processes = [started(ROTATING, path, ROTATIONS) for _ in range(PROCESSES)]
    with ThreadPoolExecutor(PROCESSES) as pool:
        answers = [pool.submit(process.communicate, "go\n") for process in processes]
        wrapped += [key.wrap(secret, BINDING) for _ in range(200)]
        made = [int(line) for answer in answers for line in answer.result(300)[0].split()]
    assert sorted(made) == list(range(2, PROCESSES * ROTATIONS + 2))
    assert key.describe().version == PROCESSES * ROTATIONS + 1
    wrapped.append(key.wrap(secret, BINDING))
    for each in wrapped:
        assert FileKey.open(path).unwrap(each, BINDING).expose() == key.unwrap(each, BINDING).expose() == secret.expose()


def test_a_process_that_does_not_end_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another process holds the file a change is an error in bounded time, and reading goes on; then the change succeeds."""
    monkeypatch.setattr("securemllib.kms.turns.WAIT_SECONDS", 0.3)
    path = tmp_path / "kek"
    key = FileKey.create(path, None)
    wrapped = key.wrap(DataKey.generate(), BINDING)
    with started(HOLDING, path) as holder:
        began = time.monotonic()
        for change in (key.rotate, key.shred):
            with pytest.raises(UnavailableError) as caught:
                change()
            assert caught.value.error_code == "unavailable.kek.busy"
        assert 0.6 <= time.monotonic() - began < 60
        assert key.unwrap(wrapped, BINDING) is not None
        holder.kill()
    assert key.rotate() == 2


def test_turns_end(tmp_path: Path) -> None:
    """A block that ends, or fails, gives its turn to the next one, of the same process too."""
    path = tmp_path / "file"
    with pytest.raises(ValueError, match="mine"), turn(path, wait=0):
        raise ValueError("mine")
    with turn(path, wait=0), pytest.raises(UnavailableError), turn(path, wait=0):
        pass
    with turn(path, wait=0):
        pass


def test_a_key_that_another_process_rotated_or_shredded_is_known(tmp_path: Path) -> None:
    """An open key wraps under the version that another made since, opens what that one wrapped, and nothing after it was shredded."""
    path, secret = tmp_path / "kek", DataKey.generate()
    mine, other = FileKey.create(path, "words"), FileKey.open(path, "words")
    assert other.rotate() == 2
    assert mine.unwrap(other.wrap(secret, BINDING), BINDING).expose() == secret.expose()
    assert mine.wrap(secret, BINDING).key_version == 2
    other.shred()
    with pytest.raises(UnavailableError, match="shredded"):
        mine.wrap(secret, BINDING)
    with pytest.raises(UnavailableError, match="shredded"):
        mine.rotate()

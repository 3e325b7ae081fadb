"""Does the demonstration keep what it promises on its screen?"""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from securemllib.cli.demo.searching import descendants

COMMAND = (sys.executable, "-c", "from securemllib.cli import main; main()", "demo", "--rows", "2000")
PLACES = 7
CONTROLS = 3


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Run the demonstration to its end."""
    kept = tmp_path_factory.mktemp("demo") / "kept"
    result = subprocess.run([*COMMAND, "--keep", str(kept)], capture_output=True, text=True, timeout=540, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result, kept


def hits(screen, control):
    """Return the hits of each searched place, or of each control."""
    lines = [line for line in screen.splitlines() if re.search(r"\d+ hits", line) and line.startswith("control: ") is control]
    return [int(re.search(r"(\d+) hits", line).group(1)) for line in lines]


def lives(process):
    """Return whether a process runs: one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.timeout(600)
def test_it_says_first_that_there_is_no_tee(done):
    """The first line of the screen says that nothing here is protected from the machine's operator."""
    assert done[0].stdout.splitlines()[0].startswith("insecure: no TEE on this machine")


@pytest.mark.timeout(600)
def test_the_host_saw_no_canary_and_the_controls_found_them(done):
    """Every place of the host has no hit; every control, the memory of the same Spark after plaintext MLlib among them, has some."""
    seen, controls = hits(done[0].stdout, False), hits(done[0].stdout, True)
    assert seen == [0] * PLACES
    assert len(controls) == CONTROLS
    assert all(controls)


@pytest.mark.timeout(600)
def test_what_left_is_named_with_the_line_of_the_policy(done):
    """Each output stands with the number of the line of the policy that lets it out, and the refused column with what it lacks."""
    policy = (Path(sys.modules["securemllib.cli.demo"].__file__).parent / "policy.yaml").read_text().splitlines()
    named = re.findall(r"(\w+) \(line (\d+)\)", done[0].stdout)
    assert {output for output, _ in named} == {"sealed_model", "summary", "metric", "rows", "plain_model"}
    assert all(policy[int(line) - 1].strip().startswith(f"{output}:") for output, line in named)
    assert "refused: rule 'score'" in done[0].stdout


@pytest.mark.timeout(600)
def test_it_compares_with_plaintext_mllib(done):
    """The screen gives the times of both, their ratio, and that they are the same model."""
    ours, theirs, ratio = map(float, re.search(r"SecureMLlib ([\d.]+) s, MLlib ([\d.]+) s, ratio ([\d.]+)", done[0].stdout).groups())
    assert ratio == pytest.approx(ours / theirs, abs=0.02)
    # As near as two minimisations come that stop at a relative improvement of 1e-6.
    assert float(re.search(r"differ by at most (\S+);", done[0].stdout).group(1)) < 1e-2


@pytest.mark.timeout(600)
def test_it_fits_one_screen_and_keeps_its_files(done):
    """The screen has at most 50 lines of at most 100 columns; with --keep all files stay, those of the host in one folder."""
    lines = done[0].stdout.splitlines()
    assert len(lines) <= 50
    assert max(map(len, lines)) <= 100
    assert {"owner", "deployment", "host"} <= {item.name for item in done[1].iterdir()}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["interrupted", "terminated"])
def test_it_leaves_no_process_behind(number):
    """Whoever stops it in the middle finds every process that it had started gone."""
    with subprocess.Popen(COMMAND, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if "start Spark standalone" in line:
                break
        started = descendants(process.pid)
        process.send_signal(number)
        process.stderr.read()
    assert process.returncode != 0
    # Broker, agent, two enclaves, a master and two workers at least, beside the command itself.
    assert len(started) >= 8
    assert [identifier for identifier in started if lives(identifier)] == []

"""Does the built image hold everything that the enclave opens, and does its manifest trust nothing else?"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from securemllib.attestation.measurement import measure_package
from securemllib.cli.enclave import app
from securemllib.cli.enclave_process import ask_claims
from securemllib.cli.image.build import ENTRYPOINT, MANIFEST, build, sign
from securemllib.cli.image.closure import FILE_LIMIT
from securemllib.cli.image.libraries import GramineRuntime
from securemllib.cli.image.manifest import JobClass, read_manifest, verify_files
from securemllib.errors import FormatError, IntegrityError, UnavailableError, UsageError
from tests.architecture.test_tcb import closure as imported
from tests.image.native import environment, in_image, manifest_of, running

SMALL = JobClass(memory=2**28, threads=2, idle=20.0)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a built image."""
    folder = tmp_path_factory.mktemp("images") / "first"
    build(folder, SMALL)
    return folder


@pytest.fixture(scope="module")
def manifest(image: Path) -> dict:
    """Return the image's manifest."""
    return manifest_of(image)


def trusted(manifest: dict) -> set[str]:
    """Return the paths of the trusted files."""
    return {each["uri"].removeprefix("file:") for each in manifest["sgx"]["trusted_files"]}


def test_two_builds_are_the_same_bytes(image: Path, tmp_path: Path) -> None:
    """Another build of the same environment in another folder gives the same manifest, so one measurement names both."""
    build(tmp_path / "second", SMALL)
    assert (tmp_path / "second" / MANIFEST).read_bytes() == (image / MANIFEST).read_bytes()
    assert str(tmp_path) not in (tmp_path / "second" / MANIFEST).read_text(encoding="utf-8")


def test_the_manifest_leaves_the_host_no_choice(manifest: dict) -> None:
    """Arguments and variables are fixed, nothing is debuggable, added at run time, allowed unhashed, passed through or called insecure."""
    assert manifest["loader"]["argv"][1:5] == ["-I", "-S", "-B", "-c"]
    assert manifest["sgx"]["debug"] is False
    assert manifest["sgx"]["edmm_enable"] is False
    assert manifest["sgx"]["remote_attestation"] == "dcap"
    assert manifest["sgx"]["file_check_policy"] == "strict"
    assert manifest["sys"]["disallow_subprocesses"] is True
    assert manifest["fs"]["root"] == {"type": "tmpfs"}
    assert {mount.get("type", "chroot") for mount in manifest["fs"]["mounts"]} == {"chroot"}
    assert all(isinstance(value, str) for value in manifest["loader"]["env"].values())
    assert manifest["loader"]["env"]["MALLOC_ARENA_MAX"] == "1"
    text = json.dumps({**manifest, "sgx": {**manifest["sgx"], "trusted_files": []}})
    for word in ("insecure__", "passthrough", "allowed_files", "src_file", "encrypted", "allow_all_but_log"):
        assert word not in text


def test_keys_are_those_that_gramine_knows(manifest: dict) -> None:
    """Every key is one of Gramine 1.9's manifest schema, and of its type."""
    known = {
        "loader": {"entrypoint": dict, "log_level": str, "argv": list, "env": dict},
        "libos": {"entrypoint": str},
        "fs": {"root": dict, "mounts": list},
        "sys": {"disallow_subprocesses": bool, "enable_extra_runtime_domain_names_conf": bool, "stack": dict},
        "sgx": {
            "debug": bool, "remote_attestation": str, "edmm_enable": bool, "enclave_size": str, "max_threads": int,
            "isvprodid": int, "isvsvn": int, "file_check_policy": str, "trusted_files": list,
        },
    }  # fmt: skip
    assert {section: {key: type(value) for key, value in values.items()} for section, values in manifest.items()} == known
    assert all(set(each) == {"uri", "sha256"} for each in manifest["sgx"]["trusted_files"])


def test_the_trusted_files_are_the_image(image: Path, manifest: dict) -> None:
    """Every file beneath the image's root is trusted with its digest, no link among them, and few enough for a quick start."""
    verify_files(image, manifest)
    files = [path for path in (image / "root").rglob("*") if not path.is_dir()]
    assert trusted(manifest) - {ENTRYPOINT} == {path.relative_to(image).as_posix() for path in files}
    assert not any(path.is_symlink() for path in files)
    assert 500 < len(files) <= FILE_LIMIT


OPENED = """
import importlib, json
opened = []
sys.addaudithook(lambda event, arguments: opened.append(arguments[0]) if event == "open" else None)
for module in {modules!r}:
    importlib.import_module(module)
files = {{module.__file__ for module in list(sys.modules.values()) if getattr(module, "__file__", None)}}
with open("/proc/self/maps") as maps:
    files |= {{line.split(maxsplit=5)[5].strip() for line in maps if "/" in line}}
files |= {{path for path in opened if isinstance(path, str)}}
print(json.dumps(sorted(files)))
"""


def test_every_import_of_the_enclave_is_a_trusted_file(image: Path, manifest: dict) -> None:
    """A fresh interpreter of the image, with the manifest's flags, opens nothing for any module of the enclave but trusted files."""
    modules = sorted(name for name in imported() if not name.endswith("__main__"))
    lazy = ["pyarrow.parquet", "pyarrow.compute", "scipy.special", "scipy.linalg", "scipy.optimize", "numpy.random"]
    command = in_image(image, manifest, OPENED.format(modules=[*modules, *lazy]))
    done = subprocess.run(command, env=environment(image, manifest), capture_output=True, text=True, timeout=200, check=False, cwd="/")
    assert done.returncode == 0, done.stderr
    # The kernel's own files are Gramine's inside, and an import looks for byte code that the image does not hold.
    opened = {Path(path) for path in json.loads(done.stdout)}
    files = {path for path in opened if path.is_file() and path.parts[1] not in {"proc", "sys", "dev"}}
    assert {path.relative_to(image).as_posix() if path.is_relative_to(image) else str(path) for path in files} <= trusted(manifest)
    assert len(files) > 300


def test_the_enclave_runs_from_the_image(image: Path) -> None:
    """The manifest's command line, run natively from the image, becomes an enclave with the measurement of this installation."""
    with running(image) as port:
        assert ask_claims(port).measurement == measure_package()


@pytest.mark.skipif(GramineRuntime.find() is None, reason="needs Gramine 1.9: gramine-direct on the PATH")
def test_the_enclave_runs_under_gramine(image: Path) -> None:
    """Gramine without SGX, which enforces the trusted files, runs the image, and the enclave answers a challenge."""
    with subprocess.Popen(["gramine-direct", "enclave"], cwd=image, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            assert line.startswith("listening 127.0.0.1:"), line
            assert ask_claims(int(line.rpartition(":")[2])).measurement
        finally:
            process.kill()


@pytest.mark.parametrize("change", ["tampered", "missing", "added", "link"])
def test_a_changed_image_is_refused(image: Path, manifest: dict, change: str) -> None:
    """A file that was changed, removed, added or replaced by a link makes the image one that nobody signs; put back, it passes again."""
    file = image / "root" / "python" / "bin" / Path(manifest["libos"]["entrypoint"]).name
    kept = file.with_name("kept")
    other = image / "root" / "lib" / "other.so"
    if change == "added":
        other.write_bytes(b"")
    else:
        file.rename(image / "kept")
    if change == "tampered":
        data = bytearray((image / "kept").read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    elif change == "link":
        file.symlink_to(image / "kept")
    with pytest.raises(IntegrityError):
        verify_files(image, manifest)
    other.unlink(missing_ok=True)
    if change != "added":
        file.unlink(missing_ok=True)
        (image / "kept").rename(file)
    assert not kept.exists()
    verify_files(image, manifest)


@pytest.mark.parametrize("text", ["", "x = ", 'sgx.trusted_files = ["file:root/lib/libc.so.6"]', "sgx = 3"])
def test_a_manifest_without_digests_is_refused(tmp_path: Path, text: str) -> None:
    """A manifest that is no TOML, or trusts files without saying which bytes, is refused."""
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(FormatError):
        verify_files(tmp_path, read_manifest(tmp_path / MANIFEST))


def test_build_refuses_an_incomplete_package(tmp_path: Path) -> None:
    """Without one of the enclave's own folders nothing is built, and with all of them it is."""
    package = Path(sys.modules["securemllib"].__file__).parent
    copied = Path(shutil.copytree(package, tmp_path / "package", ignore=shutil.ignore_patterns("__pycache__")))
    shutil.rmtree(copied / "crypto")
    with pytest.raises(UnavailableError):
        build(tmp_path / "image", SMALL, package=copied)
    assert not (tmp_path / "image").exists()


def test_build_writes_only_new_folders(image: Path) -> None:
    """An existing image is not written over: what was signed stays what was measured."""
    with pytest.raises(UsageError):
        build(image, SMALL)


@pytest.mark.skipif(shutil.which("gramine-sgx-sign") is not None, reason="Gramine's signer is installed: signing works here")
def test_sign_says_how_where_it_cannot(image: Path, tmp_path: Path) -> None:
    """Without Gramine's signer, signing ends with one line that says what to run where it is."""
    with pytest.raises(UnavailableError) as refused:
        sign(image, tmp_path / "key.pem")
    assert "securemllib enclave sign" in refused.value.next_step
    assert "\n" not in refused.value.next_step


def test_measure_names_the_insecure_measurement_of_an_unsigned_image(image: Path) -> None:
    """An image that was not signed has no MRENCLAVE; what is printed for it is called insecure."""
    result = CliRunner().invoke(app, ["measure", str(image)])
    assert result.stdout == f"{measure_package().hex()}\n"
    assert "insecure" in result.stderr
    assert "not signed" in result.stderr


@pytest.mark.parametrize(
    ("memory", "threads", "size", "most"),
    [
        # 512 MiB + 1.5 * 256 MiB + 2 * 64 MiB = 1 GiB exactly.
        (2**28, 2, 2**30, 20),
        # One byte of blocks more does not fit, so the next power of two.
        (2**28 + 1, 2, 2**31, 20),
        # 0.5 + 6 + 0.5 GiB.
        (2**32, 8, 2**33, 32),
    ],
)
def test_sizes_follow_the_job_class(memory: int, threads: int, size: int, most: int) -> None:
    """Enclave size and threads are computed from memory and tasks, the size as a power of two."""
    job_class = JobClass(memory=memory, threads=threads, idle=1.0)
    assert (job_class.enclave_size, job_class.max_threads) == (size, most)


@pytest.mark.parametrize(
    "wrong", [{"memory": 0}, {"threads": 0}, {"threads": 257}, {"idle": -1.0}, {"idle": float("nan")}, {"memory": 2**60}]
)
def test_impossible_job_classes_are_refused(wrong: dict) -> None:
    """Sizes that no enclave has are refused before anything is written."""
    with pytest.raises(UsageError):
        JobClass(**{"memory": 2**30, "threads": 2, "idle": 1.0, **wrong})

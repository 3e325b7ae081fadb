"""Is an enclave that was built for some operations as small as its owner was told?"""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from securemllib.attestation.measurement import measure_package
from securemllib.cli.enclave import app
from securemllib.cli.image.build import build, own_code
from securemllib.cli.image.manifest import JobClass
from securemllib.cli.image.sources import sources
from securemllib.errors import UnavailableError, UsageError
from tests.architecture.test_tcb import MAX_LINES, ROOT_PACKAGE, SOURCE, core, lines_of, operations, reached

ALLOWED = ("LogisticRegression", "StandardScaler")
PACKAGE = SOURCE / ROOT_PACKAGE


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an image for a logistic regression on scaled columns."""
    folder = tmp_path_factory.mktemp("images") / "small"
    build(folder, JobClass(memory=2**28, threads=2, idle=60.0, operations=ALLOWED))
    return folder


def modules_of(files: list[Path], package: Path) -> set[str]:
    """Return the names of the modules among the files of a package."""
    names = [file.relative_to(package).with_suffix("").parts for file in files if file.suffix == ".py"]
    return {".".join([ROOT_PACKAGE, *name]).removesuffix(".__init__") for name in names}


def test_all_of_our_code_in_the_image_is_within_the_bound(image: Path) -> None:
    """The whole closure that is measured, compiled loops and all, has at most 6,000 lines, not only what one job runs through."""
    package = own_code(image)
    found = modules_of([*package.rglob("*.py")], package)
    assert MAX_LINES // 2 < sum(map(lines_of, found)) <= MAX_LINES


@pytest.mark.parametrize("operation", sorted(operations()))
def test_what_is_built_is_what_a_job_runs_through(operation: str) -> None:
    """For each operation the files are those of its computed closure, the libraries of exactly their C files, and empty packages."""
    files = sources(PACKAGE, [operation])
    found, expected = modules_of(files, PACKAGE), core() | reached([operations()[operation]]).keys()
    assert expected <= found
    assert {name for name in found - expected if lines_of(name)} == set()
    libraries = {file.stem.removeprefix("lib") for file in files if file.suffix == ".so"}
    assert libraries == {file.stem for file in files if file.suffix == ".c"}
    assert libraries - {"processor"} <= {name.rpartition(".")[2] for name in found}


def test_another_choice_is_another_measurement(image: Path) -> None:
    """What an enclave can do is in its measurement, which `enclave measure` prints; the order in which it was asked for is not."""
    result = CliRunner().invoke(app, ["measure", str(image)])
    assert result.stdout == f"{measure_package(own_code(image)).hex()}\n"
    assert result.stdout != f"{measure_package().hex()}\n"
    assert sources(PACKAGE, ALLOWED) == sources(PACKAGE, ALLOWED[::-1])


def test_an_operation_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    """A name that the table lacks, and one whose file is missing, end the build before it writes anything."""
    for name in ("NoSuchOperation", "logisticregression", ""):
        with pytest.raises(UsageError, match="no operation is called"):
            build(tmp_path / "image", JobClass(memory=2**28, threads=2, idle=60.0, operations=(name,)))
    small = tmp_path / "package"
    for file in sources(PACKAGE, ["KMeans"]):
        target = small / file.relative_to(PACKAGE)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    assert modules_of(sources(small, ["KMeans"]), small) == modules_of(sources(PACKAGE, ["KMeans"]), PACKAGE)
    with pytest.raises(UnavailableError, match="PCA is missing"):
        sources(small, ["PCA"])
    assert not (tmp_path / "image").exists()

"""Running an image's interpreter natively, with the manifest's arguments and variables, where there is no Gramine."""

import subprocess
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from securemllib.cli.image.build import MANIFEST

__all__ = ["environment", "in_image", "manifest_of", "running"]


def manifest_of(image: Path) -> dict:
    """Return an image's manifest."""
    return tomllib.loads((image / MANIFEST).read_text(encoding="utf-8"))


def in_image(image: Path, manifest: dict, code: str | None = None) -> list[str]:
    """Return the manifest's command line, run natively by the image's own loader; with other code where it is given."""
    root = str(image / "root")
    arguments = [text.replace("/python/", f"{root}/python/") for text in manifest["loader"]["argv"]]
    if code is not None:
        place = arguments.index("-c") + 1
        path = arguments[place].split(";")[1]
        arguments = [*arguments[:place], f"import sys;{path}\n{code}"]
    (loader,) = (image / "root" / "lib").glob("ld-linux-*.so.*")
    return [str(loader), "--library-path", f"{root}/lib", *arguments]


def environment(image: Path, manifest: dict) -> dict[str, str]:
    """Return the manifest's variables, as they read outside the enclave."""
    return {name: value.replace("/lib", f"{image}/root/lib") for name, value in manifest["loader"]["env"].items()}


@contextmanager
def running(image: Path) -> Iterator[int]:
    """Start the manifest's command line natively, give the port of the enclave that it becomes, and end it afterwards."""
    manifest = manifest_of(image)
    command, variables = in_image(image, manifest), environment(image, manifest)
    with subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/") as process:
        try:
            line = process.stdout.readline()
            assert line.startswith("listening 127.0.0.1:"), process.stderr.read() if process.poll() is not None else line
            yield int(line.rpartition(":")[2])
        finally:
            process.terminate()

"""Writes parity.md: every public class and Param of pyspark.ml, and whether it is here; read from both packages, never written by hand."""

import importlib
import inspect
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

from pyspark.ml.param import Param

from securemllib.algorithms.registry import ALGORITHMS, TRANSFORMERS, param_name

__all__ = ["MODULES", "Parity", "classes", "parity", "setup"]

MODULES = ("classification", "regression", "clustering", "recommendation", "feature", "stat", "fpm", "evaluation", "tuning", "pipeline")

# Params that say where columns are, or that only place the computation, have their effect outside of the algorithm.
_NO_ALGORITHM = ("Col", "Cols", "seed")
# Names of Java's face that no class here has.
_JAVA = frozenset({"save", "write", "read", "load", "copy", "transform", "fit", "fitMultiple"})

_INTRODUCTION = """\
# pyspark.ml, class by class

Generated from the public API of pyspark.ml {version} and from this package. *Same*: every Param has its effect, and what the original's
model tells can be read after `release()`. *Differs*: some Params are refused when they are set (none is accepted and ignored), or some
attributes are not there; both are named. *Missing*: not built. Differences in results are in the last section, in the algorithms' words.

**{same} same, {differs} differ, {missing} missing**, of {total} classes.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """One class of pyspark.ml.

    Attributes:
        name: Its name.
        ours: The class here, or None.
        refused: Params that are refused where they are set.
        absent: Public attributes that neither the class here nor what `release()` returns has, and what else the class says it is without.
    """

    name: str
    ours: type[Any] | None
    refused: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()

    @property
    def status(self) -> str:
        """``same``, ``differs`` or ``missing``."""
        if self.ours is None:
            return "missing"
        return "differs" if self.refused or self.absent else "same"


def classes(module: str) -> Iterator[tuple[str, type[Any]]]:
    """Yield the public classes of a module of pyspark.ml."""
    original = importlib.import_module(f"pyspark.ml.{module}")
    for name in sorted(getattr(original, "__all__", ())):
        found = getattr(original, name)
        if inspect.isclass(found):
            yield name, found


def parity(module: str, name: str, original: type[Any]) -> Parity:
    """Return what there is of one class."""
    try:
        ours = getattr(importlib.import_module(f"securemllib.ml.{module}"), name, None)
    except ModuleNotFoundError:
        ours = None
    if ours is None:
        return Parity(name=name, ours=None)
    absent = (*_absent(ours, original), *getattr(ours, "WITHOUT", ()))
    return Parity(name=name, ours=ours, refused=tuple(refused_params(ours)), absent=absent)


def refused_params(ours: type[Any]) -> list[str]:
    """Return the Params of an estimator, transformer or evaluator that are refused where they are set to another value than the default."""
    algorithm = ALGORITHMS.get(ours.__name__) or TRANSFORMERS.get(ours.__name__)
    if algorithm is None:
        return []
    known = {param_name(field.name) for field in fields(algorithm) if field.init}
    params = [name for name in dir(ours) if isinstance(inspect.getattr_static(ours, name), Param)]
    return [name for name in params if name not in known and not name.endswith(_NO_ALGORITHM)]


def _absent(ours: type[Any], original: type[Any]) -> list[str]:
    wanted = {name for name in dir(original) if not name.startswith("_") and name not in _JAVA}
    there = {name for name in dir(ours) if not name.startswith("_") and not _refuses(inspect.getattr_static(ours, name))}
    plain = getattr(ours, "PLAIN", None) or (get_type_hints(ours._plain).get("return") if hasattr(ours, "_plain") else None)
    if inspect.isclass(plain):
        there |= {name for name in dir(plain) if not name.startswith("_")}
    return sorted(wanted - there)


def _refuses(attribute: Any) -> bool:
    found = attribute.fget if isinstance(attribute, property) else attribute
    return (getattr(found, "__doc__", None) or "").startswith("Refuse")


def _paragraph(algorithm: type[Any], word: str) -> str:
    text = sys.modules[algorithm.__module__].__doc__ or ""
    for paragraph in text.split("\n\n"):
        line = " ".join(paragraph.split())
        if line.startswith((f"{word}:", "Spark MLlib:")):
            return line.partition(":")[2].strip()
    return ""


def _notes() -> dict[str, list[str]]:
    """Return what the modules of algorithms and transformers say of their results, and the names that each text is about."""
    found: dict[str, list[str]] = {}
    for name, operation in sorted({**ALGORITHMS, **TRANSFORMERS}.items()):
        if text := _paragraph(operation, "Equivalence"):
            found.setdefault(text, []).append(name)
    return found


def _page() -> str:
    import pyspark

    tables, counts = [], {"same": 0, "differs": 0, "missing": 0}
    for module in MODULES:
        rows = [parity(module, name, original) for name, original in classes(module)]
        if not rows:
            continue
        lines = [f"## {module}\n", "| class | status | refused Params | not there |", "|---|---|---|---|"]
        for row in rows:
            counts[row.status] += 1
            lines.append(f"| {row.name} | {row.status} | {', '.join(row.refused)} | {', '.join(row.absent)} |")
        tables.append("\n".join(lines) + "\n")
    notes = [f"**{', '.join(names)}**: {text}\n" for text, names in _notes().items()]
    introduction = _INTRODUCTION.format(version=pyspark.__version__, total=sum(counts.values()), **counts)
    return "\n".join([introduction, *tables, "## Results\n", *notes])


def _write(app: Any) -> None:
    page, text = Path(app.srcdir) / "parity.md", _page()
    if not page.exists() or page.read_text(encoding="utf-8") != text:
        page.write_text(text, encoding="utf-8")


def setup(app: Any) -> dict[str, bool]:
    """Register the extension."""
    app.connect("builder-inited", _write)
    return {"parallel_read_safe": True}

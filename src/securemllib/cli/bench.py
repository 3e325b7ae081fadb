"""`securemllib bench --sgx-model`: what trainings would cost inside SGX, predicted from counts and published constants."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from securemllib.cli.sgx.access import SHARES
from securemllib.cli.sgx.model import CONSTANTS, exits, predict
from securemllib.cli.sgx.running import Counted, count_all
from securemllib.cli.sgx.workloads import WORKLOADS
from securemllib.errors import UsageError

__all__ = ["app", "as_json", "as_markdown", "as_table"]

app = typer.Typer(help="Predict what SGX would cost. The comparison with plaintext MLlib is `make bench` in the source tree.")

TITLE = "PREDICTION, not a measurement: no SGX hardware was used"
# What the project wants of every workload.
TARGET = 1.3
_HEADER = (
    "training", "rows x columns", "data", "enclave CPU s", "exits", "MB crossed", "working set MB", "random", "table MB",
    "predicted overhead", f"at most {TARGET}",
)  # fmt: skip
_OPERATIONS = tuple(workload.operation for workload in WORKLOADS)


@app.callback(invoke_without_command=True)
def bench(
    sgx_model: Annotated[bool, typer.Option("--sgx-model", help="Count trainings and predict their overhead inside SGX.")] = False,
    scale: Annotated[float, typer.Option("--scale", help="Factor on the rows of every workload.")] = 1.0,
    only: Annotated[list[str] | None, typer.Option("--only", help="An estimator; may be given several times.")] = None,
    memory: Annotated[int, typer.Option("--memory", min=1, help="Bytes for the enclave's blocks.")] = 4 * 2**30,
    cores: Annotated[int, typer.Option("--cores", min=1, help="Spark's task slots.")] = 2,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write counts, terms and constants to this file.")] = None,
    markdown_file: Annotated[Path | None, typer.Option("--markdown", help="Also write tables for a page to this file.")] = None,
) -> None:
    """Count trainings through a real enclave process without a TEE, and predict what SGX would add."""
    if not sgx_model:
        raise UsageError("Say what to do.", next_step="securemllib bench --sgx-model; against plaintext MLlib: `make bench`.")
    if unknown := sorted(set(only or ()) - set(_OPERATIONS)):
        raise UsageError(f"There is no workload {unknown[0]!r}.", next_step=f"The workloads are {', '.join(_OPERATIONS)}.")
    if not 0.0 < scale < float("inf"):
        raise UsageError(f"The scale must be more than 0, not {scale}.")
    _check_writable(json_file, markdown_file)
    _check_installed()
    chosen = [workload for workload in WORKLOADS if not only or workload.operation in only]
    found = list(count_all(chosen, scale=scale, memory=memory, cores=cores))
    if json_file is not None:
        json_file.write_text(json.dumps(as_json(found), indent=2) + "\n", encoding="utf-8")
    if markdown_file is not None:
        markdown_file.write_text(as_markdown(found), encoding="utf-8")
    console = Console(width=None if Console().is_terminal else 160, highlight=False)
    console.print(as_table(found))
    for name, constant in CONSTANTS.items():
        span = f"{constant.low:g}" if constant.low == constant.high else f"{constant.low:g} to {constant.high:g}"
        console.print(f"  {name}: {span} {constant.unit} ({constant.source})", markup=False)


def as_table(found: Sequence[Counted]) -> Table:
    """Return the counts and predictions, a row a training."""
    table = Table(title=TITLE, title_style="bold red")
    for number, name in enumerate(_HEADER):
        table.add_column(name, justify="right" if number else "left")
    for each in found:
        table.add_row(*_row(each))
    return table


def as_markdown(found: Sequence[Counted]) -> str:
    """Return the same and the constants as tables of a page."""
    rows = [_HEADER, ("---",) * len(_HEADER), *map(_row, found), (), ("constant", "kind end", "unkind end", "what", "source"), ("---",) * 5]
    rows += [(name, f"{each.low:g}", f"{each.high:g}", each.unit, each.source) for name, each in CONSTANTS.items()]
    rows += [(), ("operation", "random", "why"), ("---",) * 3, *((name, f"{each.share:g}", each.reason) for name, each in SHARES.items())]
    return f"**{TITLE}.**\n\n" + "\n".join(f"| {' | '.join(row)} |" if row else "" for row in rows) + "\n"


def _row(each: Counted) -> tuple[str, ...]:
    counts, low, high = each.counts, predict(each.counts, "low"), predict(each.counts, "high")
    return (
        each.operation,
        f"{each.rows:,} x {each.columns}",
        each.data,
        f"{counts.seconds:.2f}",
        f"{exits(counts):,}",
        f"{(counts.bytes_in + counts.bytes_out) / 1e6:.1f}",
        f"{counts.working_set / 1e6:.0f}",
        f"{counts.random_share:.2f}",
        f"{counts.table / 1e6:.2f}",
        f"{low.overhead:.2f} to {high.overhead:.2f}",
        "yes" if high.overhead <= TARGET else "no",
    )


def as_json(found: Sequence[Counted]) -> dict[str, Any]:
    """Return everything that the predictions stand on."""
    trainings = []
    for each in found:
        bounds = {"low": asdict(predict(each.counts, "low")), "high": asdict(predict(each.counts, "high"))}
        share = SHARES[each.operation]
        trainings.append({**asdict(each), "random_share_reason": share.reason, "exits": exits(each.counts), "predicted": bounds})
    return {"kind": TITLE, "target": TARGET, "constants": {name: asdict(each) for name, each in CONSTANTS.items()}, "trainings": trainings}


def _check_installed() -> None:
    """Raise where a role that the counting starts as a process of its own is not installed: it would tell of that by a traceback."""
    try:
        for module in ("securemllib.cli.broker", "securemllib.spark.session"):
            import_module(module)
    except ModuleNotFoundError as error:
        advice = "pip install 'securemllib[bench]'"
        raise UsageError(f"The counting needs {error.name}.", next_step=advice, code="usage.missing_package") from None


def _check_writable(*files: Path | None) -> None:
    # Before minutes of trainings, not after them.
    for file in files:
        if file is not None and (file.is_dir() or not file.parent.is_dir()):
            raise UsageError(f"{file} cannot be written.", next_step="Name a file in a directory that exists.")

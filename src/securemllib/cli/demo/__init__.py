"""The demonstration: real data, separate processes, and a search of everything that the host can see.

Runs in: the owner's process, which starts the broker, the analyst's agent and script, the enclaves and a Spark cluster beside itself.
Sees: the owner's plaintext; whatever those processes leave on disk, on the wire and in their memory.
"""

from pathlib import Path
from typing import Annotated

import typer

from securemllib.errors import UsageError

__all__ = ["app"]

app = typer.Typer(help="Train on private health data through separate processes, and show what the host saw.")

_ROWS = 20_190
_FEWEST_ROWS = 400


@app.callback(invoke_without_command=True)
def demo(
    keep: Annotated[Path | None, typer.Option("--keep", help="A new folder for all files of the demonstration, which then stay.")] = None,
    rows: Annotated[int, typer.Option("--rows", min=_FEWEST_ROWS, max=_ROWS, help="How many of the data's rows to use.")] = _ROWS,
) -> None:
    """Train, evaluate, score and release on the RAND health insurance experiment, then search for its planted values."""
    try:
        from securemllib.cli.demo.running import run
    except ModuleNotFoundError as error:
        advice = "pip install 'securemllib[demo]'"
        raise UsageError(f"The demonstration needs {error.name}.", next_step=advice, code="usage.missing_package") from None
    run(keep, rows)

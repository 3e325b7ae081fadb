"""Time against rows: does what a training costs grow as its rows do, ours and MLlib's?"""

import io
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot

__all__ = ["exponent", "growth_chart", "series"]

Result = dict[str, Any]

_SIDES = (("cpu_seconds", "SecureMLlib, encrypted", "#3465a4", "o-"), ("reference_cpu_seconds", "MLlib, in the clear", "#c4a000", "s--"))
_ACROSS = 3


def series(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Return the results of each workload, mode and place of the rows that was measured with several numbers of rows, fewest first."""

    def what(result: Result) -> str:
        return f"{result['workload']}, {result['mode']}, {'cached' if result['cached'] else 'files'}".replace("_", " ")

    ordered = sorted(results, key=lambda result: (what(result), result["rows"]))
    found = {name: list(group) for name, group in groupby(ordered, key=what)}
    return {name: group for name, group in found.items() if len({result["rows"] for result in group}) > 1}


def exponent(rows: Sequence[float], seconds: Sequence[float]) -> float:
    """Return e of the power law ``seconds = c rows^e`` that fits best: 1 where the cost is linear, less where a fixed cost weighs."""
    return float(np.polyfit(np.log(rows), np.log(seconds), 1)[0])


def growth_chart(results: Sequence[Result]) -> bytes | None:
    """Return a picture of CPU seconds against rows, a panel a workload; None where nothing was measured with several numbers of rows."""
    panels = series(results)
    if not panels:
        return None
    across = min(len(panels), _ACROSS)
    down = -(-len(panels) // across)
    figure, axes = pyplot.subplots(down, across, figsize=(4.6 * across, 3.6 * down), layout="constrained", squeeze=False)
    for panel, (name, group) in zip(axes.flat, panels.items(), strict=False):
        rows = [result["rows"] for result in group]
        for key, label, colour, line in _SIDES:
            seconds = [result[key] for result in group]
            panel.plot(rows, seconds, line, color=colour, label=f"{label}: rows^{exponent(rows, seconds):.2f}")
        # A cost that is linear in rows runs beside this line.
        middle = group[len(group) // 2]
        panel.plot(rows, [middle["cpu_seconds"] * count / middle["rows"] for count in rows], ":", color="#999", linewidth=0.9)
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.set_title(name, fontsize=9)
        panel.set_xlabel("rows")
        panel.set_ylabel("CPU seconds")
        panel.legend(fontsize=7)
    for panel in axes.flat[len(panels) :]:
        panel.remove()
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=130)
    pyplot.close(figure)
    return out.getvalue()

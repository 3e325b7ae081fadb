"""What was measured, as JSON, as a table on the terminal, as a chart and as one HTML page."""

import base64
import html
import io
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib
from growth import growth_chart
from measure import Samples
from rich.console import Console
from rich.table import Table

matplotlib.use("Agg")
from matplotlib import pyplot

__all__ = ["entry", "print_table", "write_html", "write_json"]

Result = dict[str, Any]

_COLUMNS = (
    "workload",
    "rows x columns",
    "data",
    "CPU s",
    "reference",
    "CPU ratio",
    "target",
    "wall ratio",
    "quality",
    "of reference",
    "difference",
)
_RATIO = _COLUMNS.index("CPU ratio")
_SPLIT = ("workload", "data", "ours", "reference")
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:75rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;width:100%}th,td{padding:.35rem .6rem;border-bottom:1px solid #ddd;text-align:right;white-space:nowrap}"
    "th:first-child,td:first-child{text-align:left}.missed{color:#b00020;font-weight:600}.reached{color:#1b6e2e}img{max-width:100%}"
    ".wide{overflow-x:auto}@media(prefers-color-scheme:dark){body{background:#161616;color:#ddd}img{background:#fff}}"
)


def entry(
    workload: str,
    ours: Samples,
    reference: Samples,
    *,
    shape: tuple[int, int],
    mode: str,
    cached: bool,
    quality: tuple[str, float, float],
    target: float,
    **more: Any,
) -> Result:
    """Return one comparison as a JSON object.

    Args:
        workload: Its name.
        ours: Our costs.
        reference: The reference's.
        shape: Rows and columns.
        mode: The mode of our side.
        cached: Whether the data lay in memory.
        quality: What it is called, ours, the reference's.
        target: The CPU ratio to reach.
        **more: Other members.
    """
    cpu = [a / b for a, b in zip(ours.cpu, reference.cpu, strict=True)]
    wall = [a / b for a, b in zip(ours.wall, reference.wall, strict=True)]
    return {
        "workload": workload,
        "rows": shape[0],
        "columns": shape[1],
        "mode": mode,
        "cached": cached,
        "cpu_ratio": median(ours.cpu) / median(reference.cpu),
        "cpu_ratio_min": min(cpu),
        "cpu_ratio_max": max(cpu),
        "wall_ratio": median(ours.wall) / median(reference.wall),
        "wall_ratio_min": min(wall),
        "wall_ratio_max": max(wall),
        "target_cpu_ratio": target,
        "cpu_seconds": median(ours.cpu),
        "reference_cpu_seconds": median(reference.cpu),
        "wall_seconds": median(ours.wall),
        "reference_wall_seconds": median(reference.wall),
        "runs": len(ours.costs),
        "quality_name": quality[0],
        "quality": quality[1],
        "reference_quality": quality[2],
        "cpu_seconds_by_process": ours.roles,
        "reference_cpu_seconds_by_process": reference.roles,
        **more,
    }


def write_json(results: Sequence[Result], path: Path) -> None:
    """Write the list of comparisons."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(list(results), indent=1, ensure_ascii=False) + "\n")


def print_table(results: Sequence[Result], console: Console, facts: Sequence[str]) -> None:
    """Print all comparisons, where the time went, and the memory."""
    table = Table(title="CPU and wall seconds, ours / the reference, plaintext MLlib where nothing else is said below; median (least-most)")
    for index, name in enumerate(_COLUMNS):
        table.add_column(name, justify="left" if index == 0 else "right", no_wrap=index == 0)
    for result in results:
        colour = "green" if _is_reached(result) else "red"
        cells = _cells(result)
        cells[_RATIO] = f"[{colour}]{cells[_RATIO]}[/]"
        table.add_row(*cells)
    console.print(table)
    parts = Table(title="Where the CPU seconds went")
    for name in _SPLIT:
        parts.add_column(name)
    for result in results:
        parts.add_row(*_split_cells(result))
    console.print(parts)
    for line in (*_memory(results), *facts):
        console.print(line, highlight=False, markup=False)


def write_html(results: Sequence[Result], directory: Path, facts: Sequence[str]) -> Path:
    """Write ``ratios.png`` and a page that holds the chart and all numbers, and return the page's path.

    Where workloads were measured with several numbers of rows, ``rows.png`` shows their times against rows, and the page does so too.
    """
    directory.mkdir(parents=True, exist_ok=True)
    picture = _chart(results)
    (directory / "ratios.png").write_bytes(picture)
    grown = ""
    if (chart := growth_chart(results)) is not None:
        (directory / "rows.png").write_bytes(chart)
        grown = "<h2>Time against rows</h2>" + _image("CPU seconds against rows", chart)
    lines = "".join(f"<li>{html.escape(line)}</li>" for line in (*_memory(results), *facts))
    numbers = _html_table(_COLUMNS, [_cells(result) for result in results], [_is_reached(result) for result in results])
    split = _html_table(_SPLIT, [_split_cells(result) for result in results])
    page = directory / "index.html"
    page.write_text(
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>SecureMLlib and MLlib</title><style>{_STYLE}</style><h1>SecureMLlib beside plaintext MLlib</h1>"
        "<p>Our seconds divided by MLlib's: below 1 is less than MLlib needs. Median of alternated runs, least and most in brackets.</p>"
        f"{_image('CPU and wall ratios', picture)}"
        f"{grown}{numbers}<h2>Where the CPU seconds went</h2>{split}<h2>Conditions</h2><ul>{lines}</ul></html>\n"
    )
    return page


def _image(title: str, picture: bytes) -> str:
    return f'<img alt="{title}" src="data:image/png;base64,{base64.b64encode(picture).decode()}">'


def _name(result: Result) -> str:
    return f"{result['workload']} (partitioned)" if result["mode"] == "partitioned" else str(result["workload"])


def _is_reached(result: Result) -> bool:
    return bool(result["cpu_ratio"] <= result["target_cpu_ratio"])


def _data(result: Result) -> str:
    return "cached" if result["cached"] else "files"


def _cells(result: Result) -> list[str]:
    difference = result.get("difference")
    return [
        _name(result),
        f"{result['rows']:,} x {result['columns']}",
        _data(result),
        f"{result['cpu_seconds']:.3f}",
        f"{result['reference_cpu_seconds']:.3f}",
        f"{result['cpu_ratio']:.3f} ({result['cpu_ratio_min']:.3f}-{result['cpu_ratio_max']:.3f})",
        f"{result['target_cpu_ratio']:.2f}",
        f"{result['wall_ratio']:.3f} ({result['wall_ratio_min']:.3f}-{result['wall_ratio_max']:.3f})",
        f"{result['quality_name']} {result['quality']:.6g}",
        f"{result['reference_quality']:.6g}",
        "" if difference is None else f"{difference:.1e}",
    ]


def _html_table(names: Sequence[str], rows: Sequence[Sequence[str]], reached: Sequence[bool] = ()) -> str:
    head = "".join(f"<th>{name}</th>" for name in names)
    body = ""
    for number, row in enumerate(rows):
        kinds = ["reached" if reached[number] else "missed"] if reached else []
        body += "<tr>" + "".join(
            f'<td class="{kinds[0]}">{html.escape(cell)}</td>' if kinds and index == _RATIO else f"<td>{html.escape(cell)}</td>"
            for index, cell in enumerate(row)
        )
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def _split_cells(result: Result) -> list[str]:
    ours, reference = (_by_process(result, key) for key in ("cpu_seconds_by_process", "reference_cpu_seconds_by_process"))
    return [_name(result), _data(result), ours, reference]


def _by_process(result: Result, key: str) -> str:
    return ", ".join(f"{name} {seconds:.3f}" for name, seconds in sorted(result[key].items(), key=lambda item: -item[1]))


def _memory(results: Sequence[Result]) -> list[str]:
    lines = []
    for result in results:
        if "enclave_peak_bytes" in result:
            peak, limit = result["enclave_peak_bytes"] / 2**20, result["enclave_memory_target_bytes"] / 2**20
            verdict = "within" if peak <= limit else "above"
            name = _name(result)
            lines.append(f"Enclave memory, {name}: peak {peak:.0f} MiB, {verdict} {limit:.0f} MiB (1.5 x float32 matrix + 200 MB).")
    return lines


def _chart(results: Sequence[Result]) -> bytes:
    names = [f"{result['workload'].replace('_', ' ')}\n{_data(result)}" for result in results]
    figure, axes = pyplot.subplots(figsize=(max(6.0, 1.3 * len(results)), 4.5), layout="constrained")
    for offset, (key, label, colour) in enumerate((("cpu_ratio", "CPU", "#3465a4"), ("wall_ratio", "wall", "#c4a000"))):
        heights = [result[key] for result in results]
        spread = [
            [max(0.0, result[key] - result[f"{key}_min"]) for result in results],
            [max(0.0, result[f"{key}_max"] - result[key]) for result in results],
        ]
        places = [index + 0.38 * (offset - 0.5) for index in range(len(results))]
        bars = axes.bar(places, heights, 0.36, yerr=spread, label=label, color=colour, capsize=2)
        axes.bar_label(bars, fmt="%.2f", fontsize=8, padding=2)
    for index, result in enumerate(results):
        target = result["target_cpu_ratio"]
        axes.hlines(target, index - 0.42, index + 0.42, colors="#a40000", linestyles="dashed", label="target, CPU" if index == 0 else None)
    axes.axhline(1.0, color="#555", linewidth=0.8)
    axes.set_yscale("log")
    axes.set_ylabel("seconds, ours / MLlib")
    axes.set_xticks(range(len(results)), names, fontsize=8)
    axes.legend()
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=130)
    pyplot.close(figure)
    return out.getvalue()

"""The demonstration on one screen."""

from collections.abc import Mapping
from statistics import median
from typing import Any

from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from securemllib.cli.demo.story import Departure, Search, Story

__all__ = ["INSECURE", "show"]

INSECURE = "insecure: no TEE on this machine"
_WIDTH = 100
_SHOWN_PROCESSES = 4
_KIB, _MIB = 2**10, 2**20


def show(story: Story, console: Console) -> None:
    """Print it, at most a hundred columns wide."""
    console.width = min(_WIDTH, console.width) if console.is_terminal else _WIDTH
    console.print(Text.assemble((INSECURE, "bold red"), (" (its operator can read the enclaves' memory, as shown below)", "red")))
    data = f"{story.rows:,} rows, {story.features} features, canaries planted in {story.planted} rows"
    console.print(Text(f"RAND health insurance experiment: {data}"))
    for title, body in (
        ("who ran what, by process id, and what it sees", _roles(story)),
        ("steps", _steps(story)),
        (f"what left the enclaves, and by which line of policy.yaml (audit log: {story.audited} entries)", _departures(story)),
        (f"what the host saw: canaries searched for in {story.forms} forms; controls must find them", _searches(story)),
        ("against plaintext MLlib: same rows, same params, same cluster, cached", _times(story.sealed, story.plain)),
    ):
        console.print(Rule(Text(title, "bold cyan"), align="left", style="cyan"))
        console.print(body)
    console.print(Text.assemble(_verdict(story)))


def _table(*justified: str) -> Table:
    table = Table.grid(padding=(0, 2))
    for justify in justified:
        table.add_column(justify="right" if justify == "right" else "left", overflow="fold")
    return table


def _roles(story: Story) -> Table:
    table = _table("left", "left", "left")
    for role in story.roles:
        table.add_row(role.name, Text(_identifiers(role.processes), "dim"), role.sees)
    return table


def _identifiers(processes: tuple[int, ...]) -> str:
    more = len(processes) - _SHOWN_PROCESSES
    return " ".join(map(str, processes[:_SHOWN_PROCESSES])) + (f" and {more} more" if more > 0 else "")


def _steps(story: Story) -> Table:
    table = _table("right", "left")
    for step in story.steps:
        table.add_row(f"{step.seconds:.1f} s", Text.assemble(step.name, _detail(step.name, step.detail)))
    return table


def _detail(name: str, detail: str) -> tuple[str, str]:
    if "refused" in name:
        return f"  {detail.partition(']')[0]}]", "yellow"
    return f"  {detail}" if detail else "", "green"


def _departures(story: Story) -> Table:
    table = _table("left", "left")
    for departure in story.departures:
        if departure.rule:
            lines = ", ".join(f"{output} (line {line})" for output, line in departure.lines)
            table.add_row(f"{departure.jobs} x {departure.operation}", f"{lines} by rule {departure.rule}")
        else:
            table.add_row(f"{departure.jobs} x {departure.operation}", Text(_reason(departure), "yellow"))
    return table


def _reason(departure: Departure) -> str:
    rule, _, need = departure.reason.partition(": ")[2].partition(" would need ")
    return f"refused: {rule} has no {need.partition(' for ')[0].removeprefix('an ')}"


def _searches(story: Story) -> Table:
    table = _table("left", "right", "right", "right", "left")
    for search in story.searches:
        finding = search.finding
        places = f"{finding.places} {'processes' if search.place.startswith('memory') else 'files'}"
        unread = f"{finding.denied} not readable" if finding.denied else ""
        table.add_row(("control: " if search.control else "") + search.place, places, _size(finding.searched), _hits(search), unread)
    return table


def _size(length: int) -> str:
    return f"{length / _MIB:,.1f} MiB" if length >= _MIB else f"{length / _KIB:.0f} KiB"


def _hits(search: Search) -> Text:
    found = search.finding.total
    wrong = not found if search.control else found
    return Text(f"{found} hits", "bold red" if wrong else "yellow" if search.control else "bold green")


def _times(sealed: Mapping[str, Any], plain: Mapping[str, Any]) -> Table:
    ours, theirs = median(sealed["fits"]), median(plain["fits"])
    difference = max(abs(a - b) for a, b in zip(sealed["coefficients"], plain["coefficients"], strict=True))
    ratio = ours / theirs
    table = _table("left", "left")
    shown = Text(f"{ratio:.2f}", "bold green" if ratio < 1 else "bold red")
    seconds = f"SecureMLlib {ours:.2f} s, MLlib {theirs:.2f} s, ratio "
    table.add_row(f"LogisticRegression.fit, median of {len(sealed['fits'])}", Text.assemble(seconds, shown))
    rounds = f"{sealed['iterations']} and {plain['iterations']} iterations"
    loads = f"{sealed['load']:.1f} and {plain['load']:.1f}"
    table.add_row("the machine's load at the time", f"{loads} (other work on the machine distorts the ratio)")
    table.add_row("the same model", f"coefficients differ by at most {difference:.1e}; {rounds}")
    return table


def _verdict(story: Story) -> tuple[str, str]:
    seen = sum(search.finding.total for search in story.searches if not search.control)
    unread = sum(search.finding.denied for search in story.searches if not search.control)
    if seen:
        return f"{seen} canaries where the host can read", "bold red"
    note = f"; {unread} files or processes could not be read" if unread else ""
    return f"0 canaries in what the host saw outside of the enclaves{note}", "bold green"

"""The results of the fault suite as a table, in a terminal and in docs/reliability.md.

    python tests/support/fault_table.py [RESULTS [DOCUMENT]]

Owns the form of the table; between its two markers the document is written again from the results.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from fault_rows import ROWS, Row
from fault_tally import Result

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "build" / "faults"
DOCUMENT = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- written by `make faults-table` -->", "<!-- end of what is written -->"


def load(folder: Path) -> dict[str, Result]:
    """The results in a folder by the key of their row."""
    return {path.stem: Result.load(path) for path in sorted(folder.glob("*.json"))}


def render(results: Mapping[str, Result], all_rows: bool = True) -> str:
    """The table in Markdown, and under it what it cannot say."""
    lines = [
        "| what is done to it | asked for | injected | survived | lost | worst recovery | what must hold |",
        "|---|--:|--:|--:|--:|--:|---|",
    ]
    remarks: list[str] = []
    for row in ROWS:
        result = results.get(row.key)
        if result is None and not all_rows:
            continue
        marks = [] if result is None else [_mark(remarks, text) for text in _remarks(row, result)]
        lines.append(_line(row, result, "".join(marks)))
    lines += ["", *(f"{number}. {text}" for number, text in enumerate(remarks, 1))]
    lines += ["", _kinds(results)]
    seeds = sorted({result.seed for result in results.values()})
    commits = sorted({result.commit for result in results.values()})
    lines += ["", f"Seed: {', '.join(map(str, seeds)) or 'none yet'}. Commit: {', '.join(commits) or 'none yet'}."]
    return "\n".join(lines)


def _remarks(row: Row, result: Result) -> list[str]:
    texts = [f"The nearest real thing: {result.nearest}."] if result.nearest else []
    if result.injected < row.least:
        texts.append(f"Fewer than the {row.least:,} that are asked for.")
    if result.intact:
        texts.append(f"{result.intact} intact ones were checked as well, and none was taken for damaged.")
    if not result.finished:
        texts.append(f"Broken off after {result.duration_seconds:.0f} s, before all rounds were done.")
    texts += [f"Lost in round {loss['round']}: {loss['case']}" for loss in result.losses[:5]]
    return texts + result.notes


def _mark(remarks: list[str], text: str) -> str:
    remarks.append(text)
    return f" ({len(remarks)})"


def _line(row: Row, result: Result | None, marks: str) -> str:
    if result is None:
        return f"| {row.done} | {row.at_least} | not run | | | | {row.holds} |"
    survived = result.injected - result.lost
    worst = "" if result.worst_recovery_seconds is None else f"{result.worst_recovery_seconds:.1f} s"
    figures = f"{result.injected:,} | {survived:,} | {result.lost:,} | {worst}"
    return f"| {row.done}{marks} | {row.at_least} | {figures} | {row.holds} |"


def _kinds(results: Mapping[str, Result]) -> str:
    lines = ["| row | faults by kind | took |", "|---|---|--:|"]
    for row in ROWS:
        if (result := results.get(row.key)) is not None:
            kinds = ", ".join(f"{kind} {times:,}" for kind, times in sorted(result.kinds.items()))
            lines.append(f"| {row.key} | {kinds} | {result.duration_seconds:,.0f} s |")
    return "\n".join(lines)


def write(document: Path, results: Mapping[str, Result]) -> None:
    """Puts the table between the document's markers. Raises ValueError if it has none."""
    text = document.read_text()
    if BEGIN not in text or END not in text:
        raise ValueError(f"{document} has not the markers {BEGIN!r} and {END!r}")
    before, _, rest = text.partition(BEGIN)
    document.write_text(f"{before}{BEGIN}\n\n{render(results)}\n\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    arguments = [Path(argument) for argument in sys.argv[1:]]
    write(arguments[1] if len(arguments) > 1 else DOCUMENT, load(arguments[0] if arguments else RESULTS / "full"))

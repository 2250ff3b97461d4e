"""Prints how much of the C# packages their tests have run, from the Cobertura files of ``dotnet test``.

usage: dotnet_coverage.py FOLDER

A line counts once, however many test projects have run it. Exits with 1 where there is no file.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree

REPORTS = "*cobertura*.xml"
Lines = dict[tuple[str, int], bool]


def read(folder: Path) -> dict[str, Lines]:
    """For each assembly its lines, (file, number), and whether a test has run them."""
    found: dict[str, Lines] = defaultdict(dict)
    for file in sorted(folder.rglob(REPORTS)):
        for package in ElementTree.parse(file).iter("package"):  # noqa: S314 - written by our own tests
            lines = found[package.get("name", "")]
            for each in package.iter("class"):
                for line in each.iterfind("lines/line"):
                    key = each.get("filename", ""), int(line.get("number", "0"))
                    lines[key] = lines.get(key, False) or int(line.get("hits", "0")) > 0
    return {name: lines for name, lines in sorted(found.items()) if lines}


def table(assemblies: dict[str, Lines]) -> str:
    """One line for each assembly, and one for all of them."""
    every = {(name, *key): hit for name, lines in assemblies.items() for key, hit in lines.items()}
    rows = [*((name, list(lines.values())) for name, lines in assemblies.items()), ("TOTAL", list(every.values()))]
    head = f"{'C#':34} {'lines':>6} {'run':>6}"
    return "\n".join([head, *(f"{name:34} {len(hits):6} {sum(hits) / max(len(hits), 1):6.0%}" for name, hits in rows)])


def main(folder: str) -> int:
    """The exit status."""
    if not any(Path(folder).rglob(REPORTS)):
        print(f"{folder} has no report of coverage", file=sys.stderr)
        return 1
    print(table(read(Path(folder))))
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: dotnet_coverage.py FOLDER")
    sys.exit(main(sys.argv[1]))

"""Writes the lists in pyproject.toml that name every member of the workspace, from the folders that are one.

usage: members.py [--check]

A new member needs its own folder and pyproject.toml, then ``make members``. The lists are uv's workspace members and
sources, mypy's search path, the packages that coverage measures, and the root packages of import-linter. With
--check nothing is written, and the exit status is 1 where the lists are out of date.
"""

from __future__ import annotations

import re
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GENERATED = "aisandbox"
"""The package that protoc writes: it is neither measured nor checked."""


@dataclass(frozen=True, slots=True)
class Member:
    """A folder of the workspace, the name of its distribution, and the packages written by hand in it."""

    folder: str
    distribution: str
    packages: tuple[str, ...]


def members(root: Path = ROOT) -> list[Member]:
    """All members, sorted by folder."""
    return [_member(path) for path in sorted(root.glob("*/pyproject.toml"))]


def _member(path: Path) -> Member:
    project = tomllib.loads(path.read_text(encoding="utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    packages = tuple(name for each in wheel["packages"] if (name := Path(each).name) != GENERATED)
    return Member(path.parent.name, project["project"]["name"], packages)


def with_lists(text: str, known: list[Member]) -> str:
    """The text of pyproject.toml with its lists of members as they should be. Raises ValueError if one is missing."""
    packages = sorted(name for each in known for name in each.packages)
    paths = [f"{each.folder}/src" for each in known]
    lists = {
        "members": [each.folder for each in known],
        "mypy_path": [*paths, "tests/support", "scripts", "bench"],
        "source_pkgs": packages,
        "root_packages": packages,
    }
    for key, values in lists.items():
        written = f"{key} = [\n" + "".join(f'    "{value}",\n' for value in values) + "]"
        text = _replaced(rf"^{key} = \[[^\]]*\]", written, text)
    sources = "".join(f"{name} = {{ workspace = true }}\n" for name in sorted(each.distribution for each in known))
    return _replaced(r"(?<=^\[tool\.uv\.sources\]\n)(?:[\w-]+ = .*\n)*", sources, text)


def _replaced(pattern: str, written: str, text: str) -> str:
    text, count = re.subn(pattern, lambda _: written, text, flags=re.MULTILINE)
    if count != 1:
        raise ValueError(f"pyproject.toml: {count} places match {pattern}")
    return text


def main(arguments: list[str]) -> int:
    """The exit status."""
    path = ROOT / "pyproject.toml"
    text = path.read_text(encoding="utf-8")
    expected = with_lists(text, members())
    if "--check" in arguments:
        if text != expected:
            print("pyproject.toml does not list the members of the workspace: run `make members`", file=sys.stderr)
        return int(text != expected)
    path.write_text(expected, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

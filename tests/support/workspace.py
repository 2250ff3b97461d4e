"""The members of the workspace and what each needs, as uv.lock has it."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


@cache
def _locked() -> dict[str, dict[str, Any]]:
    packages = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))["package"]
    return {package["name"]: package for package in packages}


def folders() -> dict[str, str]:
    """The folder of each member, by the name of its distribution."""
    sources = {name: package["source"].get("editable") for name, package in _locked().items()}
    return {name: folder for name, folder in sources.items() if folder}


def needed_by(member: str) -> set[str]:
    """The names of all distributions that ``member`` with all its extras needs, itself among them, on any platform."""
    seen: set[tuple[str, str]] = set()
    todo = [(member, extra) for extra in ("", *_locked()[member].get("optional-dependencies", {}))]
    while todo:
        name, extra = todo.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        package = _locked()[name]
        wanted = package.get("optional-dependencies", {}).get(extra, []) if extra else package.get("dependencies", [])
        for dependency in wanted:
            todo += [(dependency["name"], each) for each in ("", *dependency.get("extra", []))]
    return {name for name, _ in seen}

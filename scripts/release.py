"""Checks that everything says one version, and prints what CHANGELOG.md says of it.

usage: release.py check vVERSION | release.py notes vVERSION | release.py set VERSION

The version is written in each member's pyproject.toml, in the production overlay's tags and, for the packages for .NET,
in clients/dotnet/Version.props; ``set`` writes all of them, and a test compares. CHANGELOG.md has a section for each
release.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OVERLAY = ROOT / "deploy" / "overlays" / "production" / "kustomization.yaml"
PACKAGES = ROOT / "clients" / "dotnet" / "Version.props"
VERSION = re.compile(r'(?<=^version = ")[^"]+(?="$)', re.MULTILINE)
PACKAGE_VERSION = re.compile(r"(?<=<Version>)[^<]+(?=</Version>)")
IMAGE_TAG = re.compile(r"(?<=^    newTag: )\S+$", re.MULTILINE)


def versions() -> Iterator[tuple[str, str]]:
    """Each place that says a version, and which."""
    for path, pattern in _places():
        found = pattern.findall(path.read_text(encoding="utf-8"))
        yield from ((str(path.relative_to(ROOT)), version) for version in found or ["none"])


def _places() -> list[tuple[Path, re.Pattern[str]]]:
    projects = [ROOT / "pyproject.toml", *sorted(ROOT.glob("*/pyproject.toml"))]
    return [*((path, VERSION) for path in projects), (OVERLAY, IMAGE_TAG), (PACKAGES, PACKAGE_VERSION)]


def notes(changelog: str, version: str) -> str:
    """The section of ``version``. Raises LookupError without one."""
    section = re.search(rf"^## \[{re.escape(version)}\].*\n((?:(?!## ).*\n?)*)", changelog, re.MULTILINE)
    if section is None:
        raise LookupError(f"CHANGELOG.md has no section [{version}]")
    return section[1].strip()


def main(command: str, tag: str) -> int:
    """The exit status."""
    version = tag.removeprefix("v")
    if command == "set":
        for path, pattern in _places():
            path.write_text(pattern.sub(version, path.read_text(encoding="utf-8")), encoding="utf-8")
        return 0
    try:
        section = notes((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), version)
    except LookupError as error:
        print(error, file=sys.stderr)
        return 1
    if command == "notes":
        print(section)
        return 0
    different = [f"{place} says {said}, not {version}" for place, said in versions() if said != version]
    print("\n".join(different) or f"everything says {version}", file=sys.stderr)
    return int(bool(different))


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("check", "notes", "set"):
        raise SystemExit("usage: release.py check|notes|set VERSION")
    sys.exit(main(sys.argv[1], sys.argv[2]))

"""The public face of each package: ``__all__`` names what exists, and other members import nothing else from it."""

from __future__ import annotations

import ast
import importlib
from functools import cache
from pathlib import Path

import pytest
from members import ROOT, members

FOLDERS = {package: ROOT / each.folder / "src" / package for each in members() for package in each.packages}


@cache
def _imported_from_packages() -> dict[str, dict[str, str]]:
    """For each package, the names that code outside of it imports from its ``__init__``, and one file that does."""
    imported: dict[str, dict[str, str]] = {package: {} for package in FOLDERS}
    sources = [*ROOT.glob("*/src/**/*.py"), *ROOT.glob("examples/**/*.py"), *ROOT.glob("bench/*.py")]
    for path in sources:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module in FOLDERS and not _is_in(path, node.module):
                imported[node.module] |= {alias.name: str(path.relative_to(ROOT)) for alias in node.names}
    return imported


def _is_in(path: Path, package: str) -> bool:
    return path.is_relative_to(FOLDERS[package])


def _is_module(package: str, name: str) -> bool:
    return (FOLDERS[package] / f"{name}.py").is_file() or (FOLDERS[package] / name).is_dir()


@pytest.mark.parametrize("package", FOLDERS)
def test_public_names_exist(package: str) -> None:
    module = importlib.import_module(package)
    assert isinstance(module.__all__, list), "a package says what others may use"
    assert [name for name in module.__all__ if not hasattr(module, name)] == []
    assert len(set(module.__all__)) == len(module.__all__)


@pytest.mark.parametrize("package", FOLDERS)
def test_names_that_others_import_from_the_package_are_public(package: str) -> None:
    public = importlib.import_module(package).__all__
    used = _imported_from_packages()[package]
    assert {name: path for name, path in used.items() if name not in public and not _is_module(package, name)} == {}

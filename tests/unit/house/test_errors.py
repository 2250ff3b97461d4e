"""The tree of errors that each errors.py draws in its docstring has exactly the module's classes, under their bases."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from types import ModuleType

import pytest
from members import ROOT, members

MODULES = [
    f"{package}.errors"
    for each in members()
    for package in each.packages
    if (ROOT / each.folder / "src" / package / "errors.py").is_file()
]
LINE = re.compile(r"^    ((?:[│ ]   )*)(├── |└── )?([A-Z]\w+)(?= |$)")


def _drawn(text: str) -> dict[str, str]:
    """Each class of the tree and the one it hangs on; empty for a root."""
    drawn: dict[str, str] = {}
    above: list[str] = []
    for line in text.splitlines():
        if found := LINE.match(line):
            depth = len(found[1]) // 4 + bool(found[2])
            del above[depth:]
            assert len(above) == depth, f"{line!r} hangs on no class"
            drawn[found[3]] = above[-1] if above else ""
            above.append(found[3])
    return drawn


def _classes(module: ModuleType) -> dict[str, type[BaseException]]:
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, BaseException) and value.__module__ == module.__name__
    }


@pytest.mark.parametrize("name", MODULES)
def test_drawn_tree_has_exactly_the_classes_of_the_module(name: str) -> None:
    module = importlib.import_module(name)
    classes = _classes(module)
    drawn = _drawn(module.__doc__ or "")
    assert set(drawn) == set(classes)
    for each, parent in drawn.items():
        bases = [base.__name__ for base in classes[each].__bases__ if base.__name__ in classes]
        assert bases == ([parent] if parent else []), each


def test_drawing_is_read_with_its_levels() -> None:
    text = """A tree.

    Base (ValueError)
    ├── One             said of it
    │   └── Below
    └── Two
        └── Last        Words of prose are no class.

    Other
"""
    assert _drawn(text) == {"Base": "", "One": "Base", "Below": "One", "Two": "Base", "Last": "Two", "Other": ""}


@pytest.mark.parametrize(
    ("mapping", "not_of_a_call"),
    [
        (
            "aisandbox_api.status_codes",
            {
                "ApiError": "a base",
                "StartupError": "there are no calls yet",
                "ReportRefused": "a base",
                "LaunchFailed": "the run is tried again and fails with a reason; no call waits for it",
                "ClusterRefused": "a fault of the installation: INTERNAL, and the log says which",
            },
        ),
        ("aisandbox_inference.status_codes", {"InferenceError": "a base", "StartupError": "there are no calls yet"}),
    ],
)
def test_every_error_of_a_server_has_a_status(mapping: str, not_of_a_call: dict[str, str]) -> None:
    source = inspect.getsource(importlib.import_module(mapping).status_of)
    patterns = [node.cls for node in ast.walk(ast.parse(source)) if isinstance(node, ast.MatchClass)]
    mapped = {ast.unparse(pattern).rpartition(".")[2] for pattern in patterns}
    classes = _classes(importlib.import_module(f"{mapping.partition('.')[0]}.errors"))
    assert set(not_of_a_call) <= set(classes)
    assert not mapped & set(not_of_a_call)
    without = {
        name
        for name, each in classes.items()
        if name not in not_of_a_call and not {base.__name__ for base in each.__mro__} & (mapped | {"StartupError"})
    }
    assert without == set()

"""The program itself: how a hint calls it, and the versions it runs with.

Owns the name that hints show, where modules of the user are found, and the command `version`. Must not know any other
command.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import shutil
import sys
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated

import typer

NAME = "aisandbox"
WITH_TRAINER = "in a checkout: uv tool install './cli[train]'"
"""How a command line that was installed without the trainer gets it."""
PACKAGES = ("aisandbox", "aisandbox-trainer", "grpcio", "protobuf", "onnxruntime", "stable-baselines3", "torch")


def command(text: str) -> str:
    """The command line that runs ``text``, for example ``aisandbox watch RUN``, ready to paste."""
    return f"{_name(sys.argv[0] if sys.argv else '')} {text}"


def find_modules_here() -> None:
    """Has modules that the user names found in the current folder too, as ``python -m`` has."""
    if "" not in sys.path:
        sys.path.insert(0, "")


def _name(called: str) -> str:
    """``aisandbox`` if the user's shell finds it on PATH, otherwise the path it was ``called`` by."""
    path = Path(called)
    if path.stem == NAME:
        # `uv run` sets PATH only for the command it runs, not for the shell of the user.
        if shutil.which(NAME) and "UV_RUN_RECURSION_DEPTH" not in os.environ:
            return NAME
        return quoted(_shortest(path))
    if path.name == "__main__.py" and path.parent.name == "aisandbox_cli" and not shutil.which(NAME):
        return f"{quoted(_shortest(Path(sys.executable)))} -m aisandbox_cli"
    return NAME


def _shortest(path: Path) -> str:
    """The path relative to the working directory if it is inside it; with a folder, so that a shell reads a path."""
    try:
        below = path.relative_to(Path.cwd()) if path.is_absolute() else path
    except ValueError:
        return str(path)
    return str(below) if len(below.parts) > 1 else os.path.join(os.curdir, below)


def quoted(path: str) -> str:
    """``path`` as a shell reads it."""
    return shlex.quote(path) if os.name == "posix" else f'"{path}"' if " " in path else path


def version(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """Print the versions of this program, of Python and of the main libraries."""
    from aisandbox_cli.rendering import two_columns

    found = {name: _installed(name) for name in PACKAGES} | {"python": platform.python_version()}
    print(json.dumps(found) if as_json else two_columns((n, v or "not installed") for n, v in found.items()))


def _installed(package: str) -> str | None:
    try:
        return installed_version(package)
    except PackageNotFoundError:
        return None

"""What this program is called on the command line of the person who reads its hints.

Owns that name. Must not know any command.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

NAME = "aisandbox"


def command(text: str) -> str:
    """The command line that runs ``text``, as in ``aisandbox watch RUN``, in a form that can be pasted."""
    return f"{_name(sys.argv[0] if sys.argv else '')} {text}"


def _name(called: str) -> str:
    """``aisandbox`` if the reader's shell finds it, or else the program as it was ``called``."""
    path = Path(called)
    if path.stem == NAME:
        # `uv run` finds the program only for the command it runs; the shell it was typed in does not.
        if shutil.which(NAME) and "UV_RUN_RECURSION_DEPTH" not in os.environ:
            return NAME
        return _quoted(_shortest(path))
    if path.name == "__main__.py" and path.parent.name == "aisandbox_cli" and not shutil.which(NAME):
        return f"{_quoted(_shortest(Path(sys.executable)))} -m aisandbox_cli"
    return NAME


def _shortest(path: Path) -> str:
    """The path from the working folder if it lies below, with a folder in it, so that a shell takes it for a path."""
    try:
        below = path.relative_to(Path.cwd()) if path.is_absolute() else path
    except ValueError:
        return str(path)
    return str(below) if len(below.parts) > 1 else os.path.join(os.curdir, below)


def _quoted(path: str) -> str:
    return shlex.quote(path) if os.name == "posix" else f'"{path}"' if " " in path else path

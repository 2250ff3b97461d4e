"""``aisandbox version``: which versions run here."""

from __future__ import annotations

import json
import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from typing import Annotated

import typer

PACKAGES = ("aisandbox", "aisandbox-trainer", "grpcio", "protobuf", "onnxruntime", "stable-baselines3", "torch")


def version(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """Print the versions of the command line and of what it works with."""
    from aisandbox_cli.rendering import two_columns

    found = {name: _version(name) for name in PACKAGES} | {"python": platform.python_version()}
    print(json.dumps(found) if as_json else two_columns((n, v or "not installed") for n, v in found.items()))


def _version(package: str) -> str | None:
    try:
        return installed(package)
    except PackageNotFoundError:
        return None

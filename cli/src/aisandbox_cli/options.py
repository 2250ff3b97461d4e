"""The options and arguments that several commands share, and how text becomes their values.

Owns their names, help and parsing. Must not know what a command does with them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Annotated, Any

import typer

from aisandbox_cli.errors import Misused

Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        envvar="AISANDBOX_ADDRESS",
        metavar="HOST:PORT",
        show_default="127.0.0.1:50051",
        help="Where the service listens.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print proto-JSON for scripts, one message a line.")]
Run = Annotated[str, typer.Argument(metavar="RUN", help="The run's id, as `aisandbox runs` lists it.")]
Runs = Annotated[list[str], typer.Argument(metavar="RUN...", help="Ids of runs, as `aisandbox runs` lists them.")]
Model = Annotated[
    str,
    typer.Option("--model", metavar="SELECTOR", help="latest, best, final, step:20000 or sha256:DIGEST."),
]


def steps(text: str | int) -> int:
    """Environment steps: ``100000``, ``100_000``, ``1e5``; typer also passes the default through here."""
    try:
        return int(text)
    except ValueError:
        value = _float(str(text))
    if not math.isfinite(value) or value != int(value):
        raise typer.BadParameter(f"{text!r} is not a whole number, like 100000, 100_000 or 1e5.")
    return int(value)


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def pairs(texts: Iterable[str], option: str) -> dict[str, str]:
    """``["a=1", "b=dict(x=2)"]`` as ``{"a": "1", "b": "dict(x=2)"}``."""
    found: dict[str, str] = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator or not key.strip():
            raise Misused(f"{option} {text!r}: must be KEY=VALUE")
        if key.strip() in found:
            raise Misused(f"{option} {key.strip()}: given twice")
        found[key.strip()] = value.strip()
    return found


def json_pairs(texts: Iterable[str], option: str) -> dict[str, Any]:
    """As :func:`pairs`, with values read as JSON where they are JSON, otherwise as text."""
    return {key: _json_or_text(value) for key, value in pairs(texts, option).items()}


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text

"""The options and arguments that several commands share, and the parsers of their values.

Owns their names, help and parsing. Must not know what a command does with them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Annotated, Any

import typer

from aisandbox_cli.errors import UsageError

Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        envvar="AISANDBOX_ADDRESS",
        metavar="[https://]HOST:PORT",
        show_default="127.0.0.1:50051, or that of `aisandbox login`",
        help="The address of the service; https:// for TLS.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts: one protobuf message per line.")]
ReadyJson = Annotated[bool, typer.Option("--json", help="Print one JSON object with the address when it is ready.")]
StopWithParent = Annotated[
    bool, typer.Option("--stop-with-parent", hidden=True, help="Stop when stdin ends, as after SIGTERM.")
]
Run = Annotated[str, typer.Argument(metavar="RUN", help="The id of a run; `aisandbox runs` lists them.")]
Runs = Annotated[
    list[str], typer.Argument(metavar="RUN...", help="The ids of one or more runs; `aisandbox runs` lists them.")
]
Model = Annotated[
    str,
    typer.Option(
        "--model",
        metavar="SELECTOR",
        help="Which model of the run: latest (default), best, final, step:N or sha256:DIGEST.",
    ),
]
EnvironmentOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=VALUE", help="An option of the simulator or a keyword argument of gymnasium.make; repeatable."
    ),
]


def steps(text: str | int) -> int:
    """Parses a number of timesteps: ``100000``, ``100_000``, ``1e5``; typer also parses the default with it."""
    try:
        return int(text)
    except ValueError:
        value = _float(str(text))
    if not math.isfinite(value) or value != int(value):
        raise typer.BadParameter(f"{text!r} is not a whole number; examples: 100000, 100_000, 1e5.")
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
            raise UsageError(f"{option} {text!r}: must be KEY=VALUE")
        if key.strip() in found:
            raise UsageError(f"{option} {key.strip()}: given twice")
        found[key.strip()] = value.strip()
    return found


def json_pairs(texts: Iterable[str], option: str) -> dict[str, Any]:
    """As :func:`pairs`, but values that are JSON are parsed as JSON; others stay text."""
    return {key: _json_or_text(value) for key, value in pairs(texts, option).items()}


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text

"""``aisandbox up``: the whole service in one process on one port.

Owns the options, and what is printed when it listens. Must not know how the service works.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from aisandbox_cli.errors import CliError, Failed


def up(
    host: Annotated[
        str | None, typer.Option(envvar="GRPC_HOST", show_default="127.0.0.1", help="The address to listen on.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(envvar="GRPC_PORT", min=0, max=65535, show_default="50051", help="The port; 0 picks a free one."),
    ] = None,
    models_dir: Annotated[
        Path | None,
        typer.Option(envvar="MODELS_DIR", metavar="FOLDER", show_default="./models", help="Where runs and models lie."),
    ] = None,
    checkpoint_dir: Annotated[
        Path | None,
        typer.Option(
            envvar="CHECKPOINT_DIR", metavar="FOLDER", show_default="MODELS_DIR", help="Where checkpoints lie."
        ),
    ] = None,
    max_concurrent_runs: Annotated[
        int | None,
        typer.Option(envvar="MAX_CONCURRENT_RUNS", min=1, metavar="N", show_default="CPUs", help="Runs at a time."),
    ] = None,
    log_level: Annotated[
        str | None,
        typer.Option(envvar="LOG_LEVEL", metavar="LEVEL", show_default="info", help="debug, info, warning or error."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object when it listens.")] = False,
    stop_with_parent: Annotated[bool, typer.Option("--stop-with-parent", hidden=True)] = False,
) -> None:
    """Run the service on this machine: training, progress and policies on one port.

    Runs survive a restart: an unfinished one goes on from its last checkpoint. Ctrl-C or SIGTERM lets calls and
    checkpoints finish first. Logs go to stderr.

    \b
    Examples:
      aisandbox up
      aisandbox up --port 50061 --models-dir /var/lib/aisandbox
    """  # noqa: D301 - \b keeps the lines apart
    chosen = {
        "GRPC_HOST": host,
        "GRPC_PORT": port,
        "MODELS_DIR": models_dir,
        "CHECKPOINT_DIR": checkpoint_dir,
        "MAX_CONCURRENT_RUNS": max_concurrent_runs,
        "LOG_LEVEL": log_level,
    }
    environ = {**os.environ, **{name: str(value) for name, value in chosen.items() if value is not None}}
    if stop_with_parent:
        from aisandbox_cli.processes import stop_with_parent as watch_stdin

        watch_stdin()
    asyncio.run(_serve(environ, as_json))

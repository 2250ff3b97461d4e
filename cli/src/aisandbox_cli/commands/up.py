"""``aisandbox up``: runs the whole service in one process, with one port for clients.

Owns the options and the message when it is ready. Must not know how the service works.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from aisandbox_cli import options
from aisandbox_cli.errors import Failed
from aisandbox_cli.processes import announce_ready, stop_when_stdin_ends, terminate
from aisandbox_cli.program import command
from aisandbox_cli.rendering import two_columns

# setting -> the option that sets it
OPTIONS = {
    "GRPC_HOST": "--host",
    "GRPC_PORT": "--port",
    "MODELS_DIR": "--models-dir",
    "CHECKPOINT_DIR": "--checkpoint-dir",
    "MAX_CONCURRENT_RUNS": "--max-concurrent-runs",
    "LOG_LEVEL": "--log-level",
}
FIRST_STEPS = {
    "train ppo --gymnasium CartPole-v1": "train a policy and show the progress",
    "runs": "list the runs",
    "act RUN 0.01 0.02 0.03 0.04": "ask the policy of a run for an action",
}


def up(
    host: Annotated[
        str | None,
        typer.Option(envvar="GRPC_HOST", metavar="ADDRESS", show_default="127.0.0.1", help="The address to listen on."),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            envvar="GRPC_PORT",
            metavar="PORT",
            min=0,
            max=65535,
            show_default="50051",
            help="The port to listen on; 0 chooses a free one.",
        ),
    ] = None,
    models_dir: Annotated[
        Path | None,
        typer.Option(
            envvar="MODELS_DIR", metavar="FOLDER", show_default="./models", help="The folder of runs and models."
        ),
    ] = None,
    checkpoint_dir: Annotated[
        Path | None,
        typer.Option(
            envvar="CHECKPOINT_DIR", metavar="FOLDER", show_default="MODELS_DIR", help="The folder of checkpoints."
        ),
    ] = None,
    max_concurrent_runs: Annotated[
        int | None,
        typer.Option(
            envvar="MAX_CONCURRENT_RUNS",
            min=1,
            metavar="N",
            show_default="number of CPUs",
            help="Runs that train at the same time.",
        ),
    ] = None,
    log_level: Annotated[
        str | None,
        typer.Option(envvar="LOG_LEVEL", metavar="LEVEL", show_default="info", help="debug, info, warning or error."),
    ] = None,
    insecure: Annotated[
        bool,
        typer.Option(
            "--insecure",
            help="Listen for other machines without authentication or without TLS (INSECURE=true).",
        ),
    ] = False,
    as_json: options.ReadyJson = False,
    stop_with_parent: options.StopWithParent = False,
) -> None:
    """Run the service on this machine: one port for clients (training and policies).

    Trainers report their progress to a free port of 127.0.0.1 (TRAINER_ADDRESS).

    Runs survive a restart: unfinished runs continue from their last checkpoint.
    On Ctrl-C or SIGTERM the service first finishes calls and saves checkpoints.
    Logs go to stderr. More settings are environment variables, see docs/settings.md.

    \b
    Examples:
      aisandbox up
      aisandbox up --models-dir /var/lib/aisandbox
    """  # noqa: D301 - \b keeps the lines apart
    chosen = {
        "GRPC_HOST": host,
        "GRPC_PORT": port,
        "MODELS_DIR": models_dir,
        "CHECKPOINT_DIR": checkpoint_dir,
        "MAX_CONCURRENT_RUNS": max_concurrent_runs,
        "LOG_LEVEL": log_level,
        "INSECURE": "true" if insecure else None,
    }
    environ = {**os.environ, **{name: str(value) for name, value in chosen.items() if value is not None}}
    if stop_with_parent:
        stop_when_stdin_ends(terminate)
    from aisandbox_inference import loop_factory

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_serve(environ, as_json))


def _options_named_by(message: str) -> str:
    """The options for the settings that a message names: `` (GRPC_PORT is the option --port)``."""
    named = [name for name in OPTIONS if re.search(rf"\b{name}\b", message)]
    return f" ({', '.join(f'{name} is the option {OPTIONS[name]}' for name in named)})" if named else ""


def _first_steps() -> str:
    return two_columns((f"  {command(text)}", what) for text, what in FIRST_STEPS.items())


async def _serve(environ: Mapping[str, str], as_json: bool) -> None:
    # Imported here: --help needs none of these.
    import aisandbox_api
    import aisandbox_inference
    from aisandbox_process import InvalidSetting, log
    from aisandbox_process.stop_signals import stop_signals
    from prometheus_client import CollectorRegistry

    registry = CollectorRegistry()
    with stop_signals() as stop:
        try:
            settings = aisandbox_api.Settings.from_environ(environ)
            policies = aisandbox_inference.create_policy_servicer(
                aisandbox_inference.Settings.from_environ(environ), registry
            )
            log.configure(settings.log_level)
            server = aisandbox_api.create_server(settings, policy_calls=policies, registry=registry)
            await server.start()
        except (InvalidSetting, aisandbox_api.StartupError, aisandbox_inference.StartupError) as error:
            raise Failed(f"{error}{_options_named_by(str(error))}") from error
        tls = [] if settings.tls is None else ["It uses TLS: use https:// and --tls-ca, or `aisandbox login`."]
        lines = [f"Runs and models: {settings.models_dir}", *tls, "", "Try it in another terminal:", _first_steps(), ""]
        more = {} if server.http_port is None else {"httpPort": server.http_port}
        announce_ready("service", server.address, lines, as_json=as_json, more=more)
        await stop.wait()
        await server.stop()
        policies.close()

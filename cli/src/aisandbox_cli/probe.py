"""The help and the wrong usage of ``aisandbox healthcheck``, as of the other commands.

Owns what is said of its options. Must not know how the probe works: :mod:`aisandbox_cli.healthcheck` does, and runs
without this module whenever its arguments are plain.
"""

from __future__ import annotations

from typing import Annotated

import typer

from aisandbox_cli.healthcheck import DEFAULT_ADDRESS, DEFAULT_TIMEOUT, probe


def healthcheck(
    address: Annotated[
        str,
        typer.Option("--address", envvar="AISANDBOX_ADDRESS", metavar="HOST:PORT", help="Where the server listens."),
    ] = DEFAULT_ADDRESS,
    service: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="One service of the server, like aisandbox.v1.EnvironmentService, or model/RUN: can it Act?",
            show_default="all",
        ),
    ] = "",
    timeout: Annotated[float, typer.Option(metavar="SECONDS", help="How long the answer may take.")] = DEFAULT_TIMEOUT,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Ask a server for its health; exit code 0 if it serves, 1 if not.

    For the probes of containers: quick, one line, no retries. Every server here
    answers it: the service, the inference-server and simulators.

    \b
    Examples:
      aisandbox healthcheck
      aisandbox healthcheck --address 127.0.0.1:50061 --json
      aisandbox healthcheck --service model/RUN
    """  # noqa: D301 - \b keeps the lines apart
    raise typer.Exit(probe(address, service, timeout, as_json=as_json))

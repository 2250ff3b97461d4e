"""``aisandbox host-gymnasium`` and ``check-simulator``: a simulator to try things with, and the test of one's own.

Owns these commands. Must not know the simulator's contract; :mod:`aisandbox_environment` does.
"""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from aisandbox_cli import options, readiness
from aisandbox_cli.connection import check_address


def host_gymnasium(
    environment: Annotated[str, typer.Argument(metavar="ID", help="A Gymnasium id, like CartPole-v1.")],
    environments: Annotated[
        int,
        typer.Option("--environments", min=1, metavar="N", help="How many environments it carries in all sessions."),
    ] = 64,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 picks a free one.")] = 50061,
    environment_option: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="A keyword of gymnasium.make; repeatable.")
    ] = None,
    as_json: readiness.AsJson = False,
    stop_with_parent: readiness.StopWithParent = False,
) -> None:
    """Serve a Gymnasium environment as a simulator (EnvironmentService).

    \b
    Examples:
      aisandbox host-gymnasium CartPole-v1
      aisandbox host-gymnasium Pendulum-v1 --port 50062 --environment-option g=9.8
      aisandbox train ppo --simulator 127.0.0.1:50061 --environments 8
    """  # noqa: D301 - \b keeps the lines apart
    from aisandbox_environment.gymnasium_host import create_gymnasium_server

    server = create_gymnasium_server(
        environment,
        host=host,
        port=port,
        capacity=environments,
        kwargs=options.json_pairs(environment_option or [], "--environment-option"),
    )
    if stop_with_parent:
        readiness.stop_with_parent()
    server.start()
    address = f"{host}:{server.port}"
    readiness.announce(
        f"simulator {environment}",
        address,
        ["", "From another terminal:", f"  aisandbox train ppo --simulator {address}", ""],
        as_json=as_json,
    )
    server.serve()


def check_simulator(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="HOST:PORT of the simulator.")],
    environments: Annotated[int, typer.Option(min=1, metavar="N", help="Environments of a session.")] = 2,
    environment_option: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="A setting of the simulator; repeatable.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for each check.")] = False,
) -> None:
    """Test a simulator against the contract of EnvironmentService; exit code 0 if it keeps every rule.

    Opens sessions of its own, which end with the command.

    \b
    Examples:
      aisandbox check-simulator 127.0.0.1:50061
      aisandbox check-simulator 127.0.0.1:50061 --environment-option level=3
    """  # noqa: D301 - \b keeps the lines apart
    check_address(address)
    from aisandbox_environment.compliance import check_simulator as run_checks

    results = run_checks(address, environments, options.json_pairs(environment_option or [], "--environment-option"))
    for result in results:
        if as_json:
            print(json.dumps({"check": result.name, "ok": result.ok, "message": result.message}))
        else:
            print(
                f"{'ok  ' if result.ok else 'FAIL'}  {result.name}" + (f": {result.message}" if result.message else "")
            )
    broken = [result for result in results if not result.ok]
    if not as_json:
        print(f"\n{len(results) - len(broken)} of {len(results)} checks passed.")
    if broken:
        if not as_json:
            print(
                "The rules are in proto/aisandbox/v1/environment.proto, explained in docs/simulators.md.",
                file=sys.stderr,
            )
        raise typer.Exit(1)

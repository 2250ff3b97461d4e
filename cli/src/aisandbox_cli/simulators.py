"""``aisandbox host-gymnasium`` and ``check-simulator``: a simulator to try things with, and the test of one's own.

Owns these commands. Must not know the simulator's contract; :mod:`aisandbox_environment` does.
"""

from __future__ import annotations

import json
import shutil
import signal
import textwrap
from typing import TYPE_CHECKING, Annotated

import typer

from aisandbox_cli import options, readiness
from aisandbox_cli.connection import check_address
from aisandbox_cli.errors import Failed, Misused, Unreachable
from aisandbox_cli.program import command

if TYPE_CHECKING:
    from aisandbox_environment.compliance import CheckResult


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
    from aisandbox_environment import gymnasium_host
    from aisandbox_environment.errors import InvalidOptions
    from aisandbox_environment.server import EnvironmentServer
    from aisandbox_process import log
    from aisandbox_wire.errors import WireError

    def ready(server: EnvironmentServer) -> None:
        if stop_with_parent:
            readiness.when_stdin_ends(server.stop)
        ways_on = ["", "From another terminal:", f"  {command(f'train ppo --simulator {server.address}')}", ""]
        readiness.announce(f"simulator {environment}", server.address, ways_on, as_json=as_json)

    log.configure("info")
    settings = options.json_pairs(environment_option or [], "--environment-option")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        gymnasium_host.host_gymnasium(environment, environments, host, port, settings, ready)
    except KeyboardInterrupt:
        return
    except (InvalidOptions, WireError) as error:
        raise Misused(str(error)) from error
    except OSError as error:
        raise Failed(str(error), "--port 0 picks a free port.") from error


def check_simulator(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="HOST:PORT of the simulator.")],
    environment_option: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="A setting of the simulator; repeatable.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="How long each reply may take.")] = 10.0,
    long_idle: Annotated[
        bool, typer.Option("--long-idle", help="Also be silent for half a minute, as a learner that updates is.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for each check.")] = False,
) -> None:
    """Test a simulator against the contract of EnvironmentService; exit code 0 if it keeps every rule.

    Opens sessions of its own, which end with the command. Takes about 2 s
    with a quick simulator, longer with a slow one: episodes are played. Exit
    code 3 if no simulator answers.

    \b
    Examples:
      aisandbox check-simulator 127.0.0.1:50061
      aisandbox check-simulator 127.0.0.1:50061 --environment-option level=3
    """  # noqa: D301 - \b keeps the lines apart
    check_address(address)
    from aisandbox_environment.compliance import check_simulator as run_checks

    settings = options.json_pairs(environment_option or [], "--environment-option")
    _check_answers(address, timeout)
    show = _print_json if as_json else _print_line
    results = run_checks(address, settings, timeout=timeout, long_idle=long_idle, on_result=show)
    broken = [result for result in results if not result.ok]
    if not as_json:
        _print_summary(broken, len(results))
    if broken:
        raise typer.Exit(1)


def _check_answers(address: str, timeout: float) -> None:
    """Raises Unreachable if nobody is there; everything else is for the checks to find."""
    from aisandbox_environment.description import describe
    from aisandbox_environment.errors import SimulatorError, SimulatorUnreachable

    try:
        describe(address, timeout)
    except SimulatorUnreachable as error:
        raise Unreachable(f"no simulator answers at {address}; start it first", f"It {error.message}") from error
    except SimulatorError:
        return


def _print_summary(broken: list[CheckResult], count: int) -> None:
    print(f"\n{count - len(broken)} of {count} checks passed.")
    if not broken:
        return
    print("\nThese failed:")
    width = shutil.get_terminal_size().columns
    for result in broken:
        print(f"  {result.name}")
        for line in result.message.splitlines():
            print(textwrap.fill(line, width, initial_indent="      ", subsequent_indent="      "))
    print("\nThe rules: proto/aisandbox/v1/environment.proto; with reasons: docs/simulators.md.")


def _print_line(result: CheckResult) -> None:
    message = f": {result.message}" if result.message else ""
    print(f"{'ok  ' if result.ok else 'FAIL'}  {result.name}{message}", flush=True)


def _print_json(result: CheckResult) -> None:
    print(json.dumps({"check": result.name, "ok": result.ok, "message": result.message}), flush=True)

"""``aisandbox host-gymnasium`` and ``check-simulator``: a simulator to try the service with, and a test of your own.

Must not know the contract of simulators, which :mod:`aisandbox_environment` implements.
"""

from __future__ import annotations

import json
import shutil
import signal
import textwrap
from typing import TYPE_CHECKING, Annotated

import typer

from aisandbox_cli import options
from aisandbox_cli.connection import checked_address
from aisandbox_cli.errors import Failed, Unavailable, UsageError
from aisandbox_cli.processes import announce_ready, stop_when_stdin_ends
from aisandbox_cli.program import WITH_TRAINER, command
from aisandbox_cli.space_checks import space_checks

if TYPE_CHECKING:
    from aisandbox_environment import CheckResult


def host_gymnasium(
    environment: Annotated[
        str, typer.Argument(metavar="ID", help="The id of a Gymnasium environment, for example CartPole-v1.")
    ],
    environments: Annotated[
        int,
        typer.Option(
            "--environments", min=1, metavar="N", help="The maximum number of environments in all sessions together."
        ),
    ] = 64,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(metavar="PORT", min=0, max=65535, help="The port to listen on; 0 chooses a free one.")
    ] = 50061,
    environment_option: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="A keyword argument of gymnasium.make; repeatable.")
    ] = None,
    as_json: options.ReadyJson = False,
    stop_with_parent: options.StopWithParent = False,
) -> None:
    """Serve a Gymnasium environment as a simulator over gRPC (EnvironmentService).

    \b
    Examples:
      aisandbox host-gymnasium CartPole-v1
      aisandbox train ppo --simulator 127.0.0.1:50061 --environments 8
      aisandbox host-gymnasium Pendulum-v1 --port 50062 --environment-option g=9.8
    """  # noqa: D301 - \b keeps the lines apart
    from aisandbox_environment import EnvironmentServer, InvalidOptions
    from aisandbox_process import log
    from aisandbox_wire import WireError

    try:
        from aisandbox_environment import host_gymnasium as serve_gymnasium
    except ModuleNotFoundError as error:
        raise Failed(f"{error.name} is not installed here", f"To install it, {WITH_TRAINER}.") from error

    def ready(server: EnvironmentServer) -> None:
        if stop_with_parent:
            stop_when_stdin_ends(server.stop)
        next_steps = ["", "In another terminal:", f"  {command(f'train ppo --simulator {server.address}')}", ""]
        announce_ready(f"simulator {environment}", server.address, next_steps, as_json=as_json)

    log.configure("info")
    settings = options.json_pairs(environment_option or [], "--environment-option")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        serve_gymnasium(environment, environments, host, port, settings, ready)
    except KeyboardInterrupt:
        return
    except (InvalidOptions, WireError) as error:
        raise UsageError(str(error)) from error
    except OSError as error:
        raise Failed(str(error), "--port 0 chooses a free port.") from error


def check_simulator(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="The HOST:PORT of the simulator.")],
    environment_option: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="An option of the simulator; repeatable.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="The timeout of each reply.")] = 10.0,
    long_idle: Annotated[
        bool, typer.Option("--long-idle", help="Also test a pause of half a minute, as during an update of the policy.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per check.")] = False,
) -> None:
    """Test whether a simulator follows the rules of EnvironmentService; exit code 0 if it follows all of them.

    The test opens its own sessions and closes them. It plays episodes, so it
    takes about 2 s with a fast simulator and longer with a slow one. Where the
    trainer is installed, a small model is also trained on made-up observations,
    which takes a few seconds more. Exit code 1 if a check fails, 3 if no
    simulator answers.

    \b
    Examples:
      aisandbox check-simulator 127.0.0.1:50061
      aisandbox check-simulator 127.0.0.1:50061 --environment-option level=3
    """  # noqa: D301 - \b keeps the lines apart
    address = checked_address(address)
    from aisandbox_environment import check_simulator as run_checks

    settings = options.json_pairs(environment_option or [], "--environment-option")
    _check_answers(address, timeout)
    show = _print_json if as_json else _print_line
    results = run_checks(
        address, settings, timeout=timeout, long_idle=long_idle, space_checks=space_checks(), on_result=show
    )
    failed = [result for result in results if not result.ok]
    if not as_json:
        _print_summary(failed, [result for result in results if result.skipped], len(results))
        if not failed and not long_idle:
            print("Half a minute without a request, as during a long update, is checked with --long-idle.")
    if failed:
        raise typer.Exit(1)


def _check_answers(address: str, timeout: float) -> None:
    """Raises Unavailable if no simulator answers; the checks report every other error."""
    from aisandbox_environment import SimulatorError, SimulatorUnreachable, describe

    try:
        describe(address, timeout)
    except SimulatorUnreachable as error:
        raise Unavailable(f"no simulator answers at {address}; start it first", f"It {error.message}") from error
    except SimulatorError:
        return


def _print_summary(failed: list[CheckResult], skipped: list[CheckResult], count: int) -> None:
    checked = count - len(skipped)
    skips = f" {len(skipped)} could not be checked with this simulator." if skipped else ""
    print(f"\n{checked - len(failed)} of {checked} checks passed.{skips}")
    if not failed:
        return
    print("\nFailed checks:")
    width = shutil.get_terminal_size().columns
    for result in failed:
        print(f"  {result.name}")
        for line in result.message.splitlines():
            print(textwrap.fill(line, width, initial_indent="      ", subsequent_indent="      "))
    print("\nThe rules are specified in proto/aisandbox/v1/environment.proto and explained in docs/simulators.md.")


def _print_line(result: CheckResult) -> None:
    message = f": {result.message}" if result.message else ""
    word = "skip" if result.skipped else "ok  " if result.ok else "FAIL"
    print(f"{word}  {result.name}{message}", flush=True)


def _print_json(result: CheckResult) -> None:
    fields = {"check": result.name, "ok": result.ok, "message": result.message, "skipped": result.skipped}
    print(json.dumps(fields), flush=True)

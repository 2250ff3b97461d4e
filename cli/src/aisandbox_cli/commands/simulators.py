"""``aisandbox host-gymnasium``, ``check-simulator``, ``simulators``: serve one, test your own, list those attached.

Must not know the contract of simulators, which :mod:`aisandbox_environment` implements.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
import textwrap
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from aisandbox_process.tls import PLAINTEXT, ChannelSecurity, InvalidChannelSecurity

from aisandbox_cli import options
from aisandbox_cli.connection import CALL_TIMEOUT
from aisandbox_cli.errors import Failed, Unavailable, UsageError
from aisandbox_cli.processes import announce_ready, stop_when_stdin_ends
from aisandbox_cli.program import WITH_TRAINER, command, quoted
from aisandbox_cli.rendering import message_json, simulators_table
from aisandbox_cli.service_address import ServiceAddress, checked_address, service_address
from aisandbox_cli.space_checks import space_checks

if TYPE_CHECKING:
    from aisandbox_environment import CheckResult


def host_gymnasium(
    environment: Annotated[
        str, typer.Argument(metavar="ID", help="The id of a Gymnasium environment, for example CartPole-v1.")
    ],
    environments: Annotated[
        int | None,
        typer.Option(
            "--environments",
            min=1,
            metavar="N",
            show_default="64, or 1 with --attach",
            help="The maximum number of environments in all sessions together; with --attach, that of each session.",
        ),
    ] = None,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(metavar="PORT", min=0, max=65535, help="The port to listen on; 0 chooses a free one.")
    ] = 50061,
    attach: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="Dial the service at [https://]HOST:PORT instead of listening; needs --pool."
        ),
    ] = None,
    pool: Annotated[str, typer.Option(metavar="NAME", help="The pool to attach to.")] = "",
    instance: Annotated[
        str,
        typer.Option(metavar="NAME", help="The name of this simulator in its pool.", show_default="host and a number"),
    ] = "",
    environment_option: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="A keyword argument of gymnasium.make; repeatable.")
    ] = None,
    as_json: options.ReadyJson = False,
    stop_with_parent: options.StopWithParent = False,
) -> None:
    """Serve a Gymnasium environment as a simulator over gRPC (EnvironmentService).

    With --attach it dials the service and waits in a pool, for machines that
    cannot be dialled.

    \b
    Examples:
      aisandbox host-gymnasium CartPole-v1
      aisandbox host-gymnasium CartPole-v1 --attach 127.0.0.1:50051 --pool arena
      aisandbox train ppo --simulator 127.0.0.1:50061 --environments 8
      aisandbox host-gymnasium Pendulum-v1 --port 50062 --environment-option g=9.8
    """  # noqa: D301 - \b keeps the lines apart
    from aisandbox_environment import AttachRefused, EnvironmentServer, InvalidOptions
    from aisandbox_process import log
    from aisandbox_wire import WireError

    if bool(attach) != bool(pool) or (instance and not attach):
        raise UsageError("--attach and --pool: use both of them, or neither; --instance needs both")

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
        if attach:
            given = _AttachOptions(environment, service_address(attach), pool, environments or 1, instance)
            _attach_gymnasium(given, settings, as_json=as_json, stop_with_parent=stop_with_parent)
        else:
            serve_gymnasium(environment, environments or 64, host, port, settings, ready)
    except KeyboardInterrupt:
        return
    except AttachRefused as error:
        raise Failed(str(error)) from error
    except (InvalidChannelSecurity, InvalidOptions, WireError) as error:
        raise UsageError(str(error)) from error
    except OSError as error:
        raise Failed(str(error), "--port 0 chooses a free port.") from error


@dataclass(frozen=True, slots=True)
class _AttachOptions:
    """What --attach and the options beside it say."""

    id: str
    service: ServiceAddress
    pool: str
    environments: int
    instance: str


def _attach_gymnasium(
    given: _AttachOptions, settings: dict[str, Any], *, as_json: bool, stop_with_parent: bool
) -> None:
    """Attaches until the process gets a signal to stop. Raises InvalidOptions, AttachRefused, KeyboardInterrupt."""
    from aisandbox_environment import Attachment, GymnasiumSimulation

    simulation = GymnasiumSimulation(given.id, settings)
    attachment = Attachment(
        simulation,
        given.service.target,
        given.pool,
        environments=given.environments,
        instance=given.instance,
        security=given.service.security,
    )
    announced: list[str] = []

    def ready(instance: str) -> None:
        if announced:  # it was attached before
            return
        announced.append(instance)
        train = given.service.command(f"train ppo --pool {given.pool}")
        next_steps = ["", "In another terminal:", f"  {train}", ""]
        does = f"is attached as {instance} to pool {given.pool} of the service at"
        announce_ready(f"simulator {given.id}", given.service.target, next_steps, as_json=as_json, does=does)

    if stop_with_parent:
        stop_when_stdin_ends(attachment.stop)
    attachment.run(ready)


def simulators(
    pool: Annotated[str, typer.Option(metavar="NAME", help="List only simulators of this pool.")] = "",
    as_json: options.Json = False,
    address: options.Address = None,
) -> None:
    """List the simulators that are attached to the service, by pool.

    \b
    Examples:
      aisandbox simulators
      aisandbox simulators --pool arena --json
    """  # noqa: D301 - \b keeps the lines apart
    from aisandbox_environment import SimulatorError, SimulatorUnreachable, list_simulators

    service = service_address(address)
    try:
        found = list_simulators(service.target, pool, CALL_TIMEOUT, security=service.security)
    except InvalidChannelSecurity as error:
        raise UsageError(str(error)) from error
    except SimulatorUnreachable as error:
        raise Unavailable(f"no service answers at {service.target}", f"It {error.message}") from error
    except SimulatorError as error:
        raise Failed(error.message) from error
    if as_json:
        for simulator in found:
            print(message_json(simulator))
    elif not found:
        security = service.security
        own = f"{'https://' if security.tls else ''}{service.target} --pool {pool or 'NAME'}"
        if security.ca_file is not None:
            own += f" --tls-ca {quoted(str(security.ca_file))}"
        if security.server_name:
            own += f" --tls-server-name {quoted(security.server_name)}"
        host = command(f"host-gymnasium CartPole-v1 --attach {own}")
        print(f"No simulators are attached. To attach one: `{host}`.", file=sys.stderr)
    else:
        print(simulators_table(found, datetime.now(UTC)))


def check_simulator(
    address: Annotated[
        str | None,
        typer.Argument(
            metavar="ADDRESS",
            show_default=False,
            help="The HOST:PORT of the simulator; with --pool that of the service (127.0.0.1:50051).",
        ),
    ] = None,
    pool: Annotated[
        str, typer.Option(metavar="NAME", help="Test a simulator that is attached to this pool of the service.")
    ] = "",
    environment_option: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="An option of the simulator; repeatable.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="The timeout of each reply.")] = 10.0,
    long_idle: Annotated[
        bool, typer.Option("--long-idle", help="Also test a pause of half a minute, as during an update of the policy.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per check.")] = False,
    of_service: Annotated[
        str | None,
        typer.Option(
            "--address", metavar="HOST:PORT", show_default=False, help="The HOST:PORT of the service; only with --pool."
        ),
    ] = None,
) -> None:
    """Test whether a simulator follows the rules of EnvironmentService; exit code 0 if it follows all of them.

    The test opens its own sessions and closes them. It plays episodes, so it
    takes about 2 s with a fast simulator and longer with a slow one. Where the
    trainer is installed, a small model is also trained on synthetic observations,
    which takes a few seconds more. Exit code 1 if a check fails, 3 if no
    simulator answers.

    \b
    Examples:
      aisandbox check-simulator 127.0.0.1:50061
      aisandbox check-simulator 127.0.0.1:50061 --environment-option level=3
      aisandbox check-simulator --pool arena
    """  # noqa: D301 - \b keeps the lines apart
    if not address and not pool:
        raise UsageError("give the simulator's ADDRESS, or --pool")
    if of_service and (address or not pool):
        raise UsageError("--address is the service's address and is only for --pool, without ADDRESS")
    service = service_address(address or of_service) if pool else None
    target = checked_address(address or "") if service is None else service.target
    security = PLAINTEXT if service is None else service.security
    from aisandbox_environment import check_simulator as run_checks

    settings = options.json_pairs(environment_option or [], "--environment-option")
    _check_answers(target, timeout, pool, security)
    show = _print_json if as_json else _print_line
    results = run_checks(
        target,
        settings,
        pool=pool,
        security=security,
        timeout=timeout,
        long_idle=long_idle,
        space_checks=space_checks(),
        on_result=show,
    )
    failed = [result for result in results if not result.ok]
    if not as_json:
        _print_summary(failed, [result for result in results if result.skipped], len(results))
        if not failed and not long_idle:
            print("Half a minute without a request, as during a long update, is checked with --long-idle.")
    if failed:
        raise typer.Exit(1)


def _check_answers(address: str, timeout: float, pool: str, security: ChannelSecurity) -> None:
    """Raises Unavailable if no simulator answers, UsageError; the checks report every other error."""
    from aisandbox_environment import SimulatorError, SimulatorUnreachable, describe

    try:
        describe(address, timeout, pool=pool, security=security)
    except InvalidChannelSecurity as error:
        raise UsageError(str(error)) from error
    except SimulatorUnreachable as error:
        if pool:
            raise Unavailable(
                f"no simulator of pool {pool!r} can be tested", f"At {address}: {error.message}"
            ) from error
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

"""``aisandbox host-gymnasium`` and ``simulators``: serve one, list those that are attached.

Must not know the contract of simulators, which :mod:`aisandbox_environment` implements.
"""

from __future__ import annotations

import signal
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from aisandbox_process.tls import InvalidChannelSecurity

from aisandbox_cli import options
from aisandbox_cli.connection import CALL_TIMEOUT
from aisandbox_cli.errors import Failed, Unavailable, UsageError
from aisandbox_cli.processes import announce_ready, stop_when_stdin_ends
from aisandbox_cli.program import WITH_TRAINER, command, find_modules_here, quoted
from aisandbox_cli.rendering import message_json, simulators_table
from aisandbox_cli.service_address import ServiceAddress, service_address


def host_gymnasium(
    environment: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="The id of a Gymnasium environment: CartPole-v1, or MODULE:ID, whose module is looked for in the "
            "current folder too.",
        ),
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
      aisandbox host-gymnasium my_worlds:Corridor-v0
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
    find_modules_here()
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

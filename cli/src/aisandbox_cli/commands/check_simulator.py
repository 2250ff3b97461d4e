"""``aisandbox check-simulator``: tests a simulator of the user, and prints what does not follow the contract.

Must not know the rules, which :mod:`aisandbox_environment` checks.
"""

from __future__ import annotations

import json
import shutil
import textwrap
from typing import TYPE_CHECKING, Annotated

import typer
from aisandbox_process.tls import PLAINTEXT, ChannelSecurity, InvalidChannelSecurity

from aisandbox_cli import options
from aisandbox_cli.errors import Unavailable, UsageError
from aisandbox_cli.service_address import checked_address, service_address
from aisandbox_cli.space_checks import space_checks

if TYPE_CHECKING:
    from aisandbox_environment import CheckResult


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

"""Runs the checks, in the order in which an author needs the results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aisandbox_process.grpc_direct import StreamEnded
from aisandbox_process.tls import PLAINTEXT, ChannelSecurity
from aisandbox_wire import WireError

from aisandbox_environment.compliance import episodes, open, parameters, reset, session, step  # noqa: A004 -- the request's name
from aisandbox_environment.compliance.checks import (
    CheckFailed,
    CheckResult,
    CheckSkipped,
    SimulatorUnderTest,
    SpaceCheck,
)
from aisandbox_environment.errors import SimulatorError


def check_simulator(
    address: str,
    options: Mapping[str, Any] | None = None,
    *,
    pool: str = "",
    security: ChannelSecurity = PLAINTEXT,
    timeout: float = 10.0,
    long_idle: bool = False,
    space_checks: Mapping[str, SpaceCheck] | None = None,
    on_result: Callable[[CheckResult], None] | None = None,
) -> list[CheckResult]:
    """Check that the simulator at ``address`` (one ``host:port``) keeps to environment.proto.

    With ``pool``, ``address`` is the service, and one of the simulators that are attached to that pool is checked.
    ``security``: of the channels to the service.
    ``options``: the simulator's own settings, JSON values. ``timeout``: seconds for each reply. ``long_idle``: also
    wait half a minute without a request, long enough for keepalive pings. ``space_checks``: further checks by their
    names, of what the declared spaces are good for; they come last. ``on_result`` gets each result as it comes.
    Takes about 2 s with a fast simulator, longer with a slow one, because episodes are played. The results end early
    if no session can be opened. Raises nothing for a simulator that breaks rules.
    """
    simulator = SimulatorUnderTest(address, dict(options or {}), timeout, long_idle, pool=pool, security=security)
    results: list[CheckResult] = []

    def run(name: str, check: Callable[[], str]) -> bool:
        result = _result(name, check)
        results.append(result)
        if on_result is not None:
            on_result(result)
        return result.ok

    for name, check in open.CHECKS.items():
        if not run(name, lambda check=check: check(simulator)) and name in open.NEEDED_BY_ALL:  # type: ignore[misc]
            return results
    of_parameters = parameters.CHECKS if simulator.spec.parameters else {}
    for name, check in (reset.CHECKS | step.CHECKS | of_parameters).items():
        run(name, lambda check=check: check(simulator))  # type: ignore[misc]
    recordings: list[episodes.Recording] = []

    def play() -> str:
        recording = episodes.play(simulator)
        recordings.append(recording)
        return f"{recording.steps} steps of {recording.environments} environments, {len(recording.episodes)} episodes"

    if run("episodes can be played", play):
        for name, look in episodes.CHECKS.items():
            run(name, lambda look=look: look(recordings[0]))  # type: ignore[misc]
    for name, check in session.CHECKS.items():
        run(name, lambda check=check: check(simulator))  # type: ignore[misc]
    for name, check_spaces in (space_checks or {}).items():
        run(name, lambda check=check_spaces: check(simulator.spec))  # type: ignore[misc]
    return results


def _result(name: str, check: Callable[[], str]) -> CheckResult:
    try:
        return CheckResult(name, True, check())
    except CheckSkipped as skipped:
        return CheckResult(name, True, f"not checked: {skipped}", skipped=True)
    except CheckFailed as failure:
        return CheckResult(name, False, str(failure))
    except WireError as error:
        return CheckResult(name, False, f"a reply breaks the contract: {error}")
    except StreamEnded as end:
        return CheckResult(name, False, f"the stream ended with {end.code.name} ({end.details}); a reply was expected")
    except SimulatorError as error:
        return CheckResult(name, False, str(error))

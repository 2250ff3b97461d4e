"""Runs the checks, in the order in which an author mends things."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aisandbox_process.grpc_direct import StreamEnded
from aisandbox_wire.errors import WireError

from aisandbox_environment.compliance import episodes, handshake, lives, requests
from aisandbox_environment.compliance.examination import CheckResult, Examination, Failed
from aisandbox_environment.errors import SimulatorError

_NEEDED_BY_ALL = tuple(handshake.CHECKS)[:2]


def check_simulator(
    address: str,
    options: Mapping[str, Any] | None = None,
    *,
    timeout: float = 10.0,
    long_idle: bool = False,
    on_result: Callable[[CheckResult], None] | None = None,
) -> list[CheckResult]:
    """Check that the simulator at ``address`` (one ``host:port``) keeps to environment.proto.

    ``options`` are its own settings; ``timeout`` seconds are allowed for each reply; ``long_idle`` adds half a minute
    of silence, long enough for keepalive pings. ``on_result`` gets each result as it comes. Takes about 2 s with a
    quick simulator, longer with a slow one: episodes are played. If no session can be opened the results end there.
    Raises nothing for a wrong simulator.
    """
    examination = Examination(address, dict(options or {}), timeout, long_idle)
    results: list[CheckResult] = []

    def run(name: str, check: Callable[[], str]) -> bool:
        result = _result(name, check)
        results.append(result)
        if on_result is not None:
            on_result(result)
        return result.ok

    for name, check in handshake.CHECKS.items():
        if not run(name, lambda check=check: check(examination)) and name in _NEEDED_BY_ALL:  # type: ignore[misc]
            return results
    for name, check in requests.CHECKS.items():
        run(name, lambda check=check: check(examination))  # type: ignore[misc]
    played: list[episodes.Play] = []

    def play() -> str:
        played.append(episodes.play(examination))
        return f"{played[0].steps} steps of {played[0].environments} environments, {len(played[0].lengths)} episodes"

    if run("episodes can be played", play):
        for name, look in episodes.CHECKS.items():
            run(name, lambda look=look: look(played[0]))  # type: ignore[misc]
    for name, check in lives.CHECKS.items():
        run(name, lambda check=check: check(examination))  # type: ignore[misc]
    return results


def _result(name: str, check: Callable[[], str]) -> CheckResult:
    try:
        return CheckResult(name, True, check())
    except Failed as failure:
        return CheckResult(name, False, str(failure))
    except WireError as error:
        return CheckResult(name, False, f"a reply breaks the contract: {error}")
    except StreamEnded as end:
        return CheckResult(name, False, f"the stream ended with {end.code.name} ({end.details}); a reply was expected")
    except SimulatorError as error:
        return CheckResult(name, False, str(error))

"""What every check works with: the simulator under test, and the result.

Must not know the single checks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aisandbox.v1 import environment_pb2 as pb
from aisandbox_process.tls import PLAINTEXT, ChannelSecurity
from google.protobuf.struct_pb2 import Struct

from aisandbox_environment.calls import describe, list_simulators
from aisandbox_environment.spec import PROTOCOL_VERSION

_POLL_SECONDS = 0.05

SpaceCheck = Callable[[pb.EnvironmentSpec], str]
"""A check of the spaces that a session has declared: it returns what was seen. Raises CheckFailed, CheckSkipped."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check. ``name`` is the rule; ``ok``: it is kept.

    ``message``: what was seen; for a rule that is broken what was expected, what received, and what to do.
    ``skipped``: the rule could not be checked, and ``message`` says why; ``ok`` is True.
    """

    name: str
    ok: bool
    message: str
    skipped: bool = False


class CheckFailed(Exception):
    """A rule is broken: ``expected`` and ``received`` are phrases, ``advice`` a sentence for the simulator's author."""

    def __init__(self, expected: str, received: str, advice: str) -> None:
        # What a simulator has said may be a sentence with a full stop of its own.
        super().__init__(f"expected {expected}; got {received.rstrip('.')}. {advice}")


class CheckSkipped(Exception):
    """A rule cannot be checked with this simulator; the text says why."""


@dataclass(slots=True)
class SimulatorUnderTest:
    """The simulator at ``address`` (one ``host:port``), to be checked with sessions that have these ``options``.

    ``timeout``: seconds for each reply. ``long_idle``: let half a minute pass without a request. ``capacity`` and
    ``in_use``: environments, as Describe said; a capacity of 0 is no limit. ``spec``: what the first session declared.

    ``pool``: ``address`` is the service, and any free simulator of that pool is checked. ``attached``: environments of
    the largest that is free, which every session has then; 0 without a pool. ``security``: of channels to the service.
    """

    address: str
    options: Mapping[str, Any] = field(default_factory=dict)
    timeout: float = 10.0
    long_idle: bool = False
    capacity: int = 0
    in_use: int = 0
    spec: pb.EnvironmentSpec = field(default_factory=pb.EnvironmentSpec)
    pool: str = ""
    attached: int = 0
    security: ChannelSecurity = PLAINTEXT
    _frees: bool = True

    def describe(self) -> pb.DescribeResponse:
        """Call Describe. Raises SimulatorError."""
        return describe(self.address, self.timeout, pool=self.pool, security=self.security)

    def free_environments(self) -> list[int]:
        """The environments of the simulators of the pool that are free. Raises SimulatorError."""
        found = list_simulators(self.address, self.pool, self.timeout, security=self.security)
        return [simulator.environments for simulator in found if not simulator.in_session]

    def available(self, limit: int, sessions: int = 1) -> int:
        """How many environments each of ``sessions`` sessions may have, at most ``limit``; 0 if none are free."""
        if self.pool:
            found = list_simulators(self.address, self.pool, self.timeout, security=self.security)
            return self.attached if [each.environments for each in found].count(self.attached) >= sessions else 0
        if self.capacity == 0:
            return limit
        return min(limit, (self.capacity - self.in_use) // sessions)

    def wait_for_free(self, environments: int) -> None:
        """Wait until ``environments`` of the capacity are free: ended sessions are freed a moment after their end.

        A simulator that frees none within ``timeout`` seconds is not waited for again.
        """
        if self.capacity and self._frees:
            self._frees = becomes_true(lambda: self.capacity - self.describe().in_use >= environments, self.timeout)

    def wait_for_free_simulator(self) -> None:
        """Wait until a simulator of the pool is free: it ends a session a moment after the stream of its trainer."""
        if self.attached:
            becomes_true(lambda: self.attached in self.free_environments(), self.timeout)

    def open_request(self, environments: int, version: int = PROTOCOL_VERSION, **options: Any) -> pb.SimulatorRequest:
        """The request that opens a session, with more ``options``; of a pool, with as many environments as it has."""
        if self.attached and environments:
            environments = self.attached
        struct = Struct()
        struct.update({**self.options, **options})
        return pb.SimulatorRequest(
            open=pb.OpenRequest(
                protocol_version=version, environments=environments, options=struct, run_id="check-simulator"
            )
        )


def becomes_true(condition: Callable[[], bool], timeout: float) -> bool:
    """Whether ``condition`` becomes true within ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True

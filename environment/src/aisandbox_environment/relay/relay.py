"""SimulatorPoolService, and EnvironmentService for its pools, as coroutines on bytes.

Owns the life of both kinds of streams: registration, the choice of a simulator, forwarding to another replica, the
stop. Must not know what carries a link, or runs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
import structlog
from aisandbox.v1 import environment_pb2, simulator_pool_pb2
from aisandbox_process.grpc_context import text_metadata
from aisandbox_process.grpc_direct import StreamAborted
from aisandbox_process.tls import PLAINTEXT, ChannelSecurity

from aisandbox_environment.channels import RUN_METADATA
from aisandbox_environment.relay.attached_simulator import REGISTER, REGISTERED, AttachedSimulator, Session
from aisandbox_environment.relay.attached_simulators import AttachedSimulators
from aisandbox_environment.relay.frames import InvalidFrame, field_of, frame
from aisandbox_environment.relay.links import Context, Link, link_of
from aisandbox_environment.relay.pool_listing import PoolListing, asks_replicas, pool_of
from aisandbox_environment.relay.rate_limit import RateLimit
from aisandbox_environment.relay.registrations import (
    Registration,
    check_same_as_joining,
    check_same_spec,
    instance_taken,
    invalid,
    parsed,
    read_registration,
)
from aisandbox_environment.relay.replicas import Replicas
from aisandbox_environment.relay.statuses import aborted
from aisandbox_environment.spec import Spec, read_spec

log = structlog.get_logger(__name__)

T = TypeVar("T")

_ASK_SECONDS = 0.2
"""How long the end of a simulator whose trainer sends nothing may stay unnoticed."""


@dataclass(frozen=True, slots=True)
class RelayLimits:
    """``simulators``: how many may be attached; ``burst`` and ``per_second``: registrations from one host."""

    simulators: int = 10_000
    burst: int = 1_200
    per_second: float = 20.0
    register_seconds: float = 30.0
    """How long a stream may take to send its first message."""
    end_seconds: float = 300.0
    """How long a simulator may take to answer the end of a session."""


Admit = Callable[[Registration, Mapping[str, str]], Awaitable[None]]
"""Asked with a registration and the metadata of its call before it is accepted; raises StreamAborted to refuse it."""


async def _admit_all(_registration: Registration, _metadata: Mapping[str, str]) -> None:
    """Every simulator may attach to every pool."""


class SimulatorRelay:
    """For one event loop; the methods with the names of calls are servicers' methods that take and return bytes."""

    def __init__(
        self,
        *,
        version: str = "",
        limits: RelayLimits | None = None,
        admit: Admit | None = None,
        replica_security: ChannelSecurity = PLAINTEXT,
        replica_token: Callable[[], tuple[tuple[str, str], ...]] = tuple,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._version = version
        self._limits = limits or RelayLimits()
        self._admit = admit or _admit_all
        self._clock = clock
        self._rate = RateLimit(self._limits.burst, self._limits.per_second, clock)
        self._simulators = AttachedSimulators()
        self._streams = 0
        self._sessions: set[Session] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._asking: asyncio.Task[None] | None = None
        self._stopping = False
        self.replicas = Replicas(security=replica_security, token=replica_token)
        self._listing = PoolListing(self._simulators, self.replicas)

    @property
    def attached(self) -> int:
        """The number of simulators that are attached to this process. For any thread."""
        return len(self._simulators)

    @property
    def in_session(self) -> int:
        """How many of them serve a session now. For any thread."""
        return len(self._sessions)

    # The calls.

    async def Attach(self, _requests: Any, context: Context) -> None:  # noqa: N802 -- the service's name
        """See the proto."""
        try:  # not by _call: thousands of these wait, and a coroutine less is memory
            await self.attach(link_of(context))
        except StreamAborted as status:
            await context.abort(status.code, status.details)

    async def ListSimulators(self, request: bytes, context: Context) -> bytes:  # noqa: N802
        """See the proto."""
        response = await _call(
            self._listing.list_simulators(request, text_metadata(context.invocation_metadata())), context
        )
        return response.SerializeToString()

    async def Describe(self, _request: bytes, context: Context) -> bytes:  # noqa: N802
        """See the proto."""
        response = await _call(self._listing.describe(text_metadata(context.invocation_metadata())), context)
        return response.SerializeToString()

    async def Session(self, _requests: Any, context: Context) -> None:  # noqa: N802
        """See the proto."""
        await _call(self.serve_session(link_of(context)), context)

    # What they do.

    async def spec_of(self, pool: str) -> Spec | None:
        """What the simulators of a pool declare; None if none is attached, to this replica or another."""
        return await self._listing.spec_of(pool)

    async def attach(self, link: Link, pool: str = "") -> None:
        """Serves one simulator until its stream ends; ``pool``: the only one that it may name, if any.

        Raises StreamAborted for a status other than OK.
        """
        self._check_stopping("attach")
        if self._streams >= self._limits.simulators:
            raise aborted(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"MAX_SIMULATORS: {self._limits.simulators:,} simulators are attached to this service already",
            )
        self._check_rate(link.peer)
        self._streams += 1
        try:
            await self._serve(await self._register(link, pool), link)
        finally:
            self._streams -= 1

    async def serve_session(self, link: Link) -> None:
        """Serves one session of a trainer until its stream ends. Raises StreamAborted for a status other than OK."""
        self._check_stopping("open the session")
        pool = pool_of(link.metadata)
        opening = await self._read_opening(link)
        opening.run_id = link.metadata.get(RUN_METADATA, opening.run_id)  # a trainer's, which was asked for its token
        simulator = self._simulators.free(pool, opening.environments)
        own = 0 if simulator is None else simulator.registration.environments
        if own < opening.environments and asks_replicas(link.metadata):
            if await self.replicas.serve_session(link, pool, opening, own):
                return
            simulator = self._simulators.free(pool, opening.environments)  # it may have been taken meanwhile
        if simulator is None:
            raise await self._listing.refusal(pool, opening.environments, link.metadata)
        session = Session(link, simulator)
        simulator.begin(session, opening.run_id)
        self._sessions.add(session)
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask_simulators())
        self._run(session.pass_requests(opening))
        try:
            await asyncio.shield(session.ended)
        finally:
            self._sessions.discard(session)
            session.end(None)
            self._run(session.leave())  # at once: the last request may wait for a simulator that does not read

    async def _ask_simulators(self) -> None:
        """A simulator is asked for a reply with each request; here, while its trainer sends none, for its end."""
        while self._sessions:
            await asyncio.sleep(_ASK_SECONDS)
            for session in self._sessions:
                session.ask()

    def stop_streams(self) -> bool:
        """Ends every stream with UNAVAILABLE and refuses new ones; returns whether there were any."""
        self._stopping = True
        streams = bool(self._streams or self._sessions)
        for session in list(self._sessions):
            session.end(aborted(grpc.StatusCode.UNAVAILABLE, "the service is stopping: open the session again"))
        for simulator in list(self._simulators.all()):
            simulator.end(aborted(grpc.StatusCode.UNAVAILABLE, "the service is stopping: attach again"))
        return streams

    async def _register(self, link: Link, pool: str) -> AttachedSimulator:
        try:
            first = await asyncio.wait_for(link.read(), self._limits.register_seconds)
        except TimeoutError:
            raise invalid("register", f"did not come within {self._limits.register_seconds:g} s") from None
        if first is None:
            raise invalid("register", "is the first message of a stream, which ended without it")
        try:
            field, payload = field_of(first)
        except InvalidFrame:
            field, payload = 0, b""
        if field != REGISTER:
            raise invalid("register", "must be the first message of a stream")
        new = read_registration(payload, pool)
        await self._admit(new, link.metadata)
        with self._simulators.reserve(new):
            await self._check_with_replicas(new)
            self._check_stopping("attach")
            simulator = AttachedSimulator(link, new, self._clock, self._limits.end_seconds)
            self._simulators.add(simulator)
        return simulator

    def _check_rate(self, host: str) -> None:
        """For each stream that is opened: those that do not register count for MAX_SIMULATORS too, for a while."""
        if not self._rate.take(host):
            raise aborted(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"too many registrations from {host}: more than {self._limits.per_second:g} a second; try again with "
                "backoff",
            )

    async def _check_with_replicas(self, new: Registration) -> None:
        """As AttachedSimulators.reserve. Each replica reserves, then asks: of two, at least one sees the other."""
        simulators, descriptions = await asyncio.gather(
            self.replicas.simulators(new.pool, joining=True), self.replicas.descriptions(new.pool, joining=True)
        )
        if any(each.instance == new.instance for each in simulators):
            raise instance_taken(new)
        for each in descriptions:
            check = check_same_spec if each.capacity else check_same_as_joining
            check(new, read_spec(each.spec))

    async def _serve(self, simulator: AttachedSimulator, link: Link) -> None:
        simulator.log.info("simulator attached", environments=simulator.registration.environments, peer=link.peer)
        registered = simulator_pool_pb2.SimulatorRegistered(service_version=self._version)
        reader: asyncio.Task[None] | None = None
        try:
            await link.write(frame(REGISTERED, registered.SerializeToString()))
            reader = self._run(simulator.read_messages())
            await asyncio.shield(simulator.ended)
        finally:
            self._simulators.remove(simulator)
            simulator.end(aborted(grpc.StatusCode.UNAVAILABLE, "the connection was lost"))
            if reader is not None:
                reader.cancel()
            simulator.log.info("simulator left", steps=simulator.steps)

    async def _read_opening(self, link: Link) -> environment_pb2.OpenRequest:
        try:
            first = await asyncio.wait_for(link.read(), self._limits.register_seconds)
        except TimeoutError:
            raise invalid("open", f"did not come within {self._limits.register_seconds:g} s") from None
        request = parsed(environment_pb2.SimulatorRequest, first or b"", "request")
        if request.WhichOneof("request") != "open":
            raise invalid("request", "the first request of a session is `open`")
        if request.open.environments < 1:
            raise invalid("open.environments", "must be at least 1, got 0")
        return request.open

    def _check_stopping(self, what: str) -> None:
        if self._stopping:
            raise aborted(grpc.StatusCode.UNAVAILABLE, f"the service is stopping: {what} again")

    def _run(self, coroutine: Any) -> asyncio.Task[None]:
        """A task of its own: gRPC cancels the task of a call, which must not interrupt a write to the other side."""
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _call(work: Awaitable[T], context: Context) -> T:
    """The result of ``work``; the call ends with the status of its StreamAborted."""
    try:
        return await work
    except StreamAborted as status:
        await context.abort(status.code, status.details)
        raise AssertionError("abort returned") from None

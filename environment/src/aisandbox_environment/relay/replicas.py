"""The other replicas of the service: what is attached to them, and sessions with their simulators.

Each replica is asked anew every time; there is no shared state. A call from a replica has its id as metadata: it is
answered from the simulators attached to the replica that it reaches, and never passed on. Must not know local ones.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence, Set
from typing import Any

import grpc
import structlog
from aisandbox.v1 import environment_pb2, simulator_pool_pb2
from aisandbox_process.grpc_options import channel_options
from aisandbox_process.grpc_tls import open_aio_channel
from aisandbox_process.tls import PLAINTEXT, ChannelSecurity

from aisandbox_environment.channels import DESCRIBE_METHOD, POOL_METADATA, SESSION_METHOD
from aisandbox_environment.relay.links import Link
from aisandbox_environment.relay.statuses import aborted

log = structlog.get_logger(__name__)

REPLICA_METADATA = "aisandbox-replica"
"""The metadata of a call from a replica of the service: its id."""

JOINING_METADATA = "aisandbox-joining"
"""The metadata of a replica's call whose answer shall have those that register at this moment."""

LIST_METHOD = "/aisandbox.v1.SimulatorPoolService/ListSimulators"
ANSWER_SECONDS = 3.0
"""How long another replica may take to say what is attached to it."""

_ELSEWHERE = (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)
"""What a replica answers whose simulator was taken in the meantime, or has gone."""


_REFUSED = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
"""What a replica answers that does not accept the token of this one."""


class _Replica:
    """A connection to one replica, which is closed when it is retired and has no session."""

    def __init__(self, address: str, security: ChannelSecurity) -> None:
        self.address = address
        self._channel = open_aio_channel(address, security, channel_options(ping_seconds=30, reconnect_seconds=2))
        self.list: Any = self._channel.unary_unary(
            LIST_METHOD,
            simulator_pool_pb2.ListSimulatorsRequest.SerializeToString,
            simulator_pool_pb2.ListSimulatorsResponse.FromString,
        )
        self.describe: Any = self._channel.unary_unary(
            DESCRIBE_METHOD,
            environment_pb2.DescribeRequest.SerializeToString,
            environment_pb2.DescribeResponse.FromString,
        )
        self.session: Any = self._channel.stream_stream(SESSION_METHOD)
        self.sessions = 0
        self.retired = False

    async def close_if_unused(self) -> None:
        """Closes the connection if nothing needs it any more."""
        if self.retired and not self.sessions:
            await self._channel.close()

    async def close(self) -> None:
        """Closes the connection and what it carries."""
        await self._channel.close()


class Replicas:
    """The other replicas. ``own_id``: of this one, so that a list of addresses may contain its own.

    ``security``: of the channels to them. ``token``: metadata that says who calls, where they ask.
    """

    def __init__(
        self,
        own_id: str = "",
        security: ChannelSecurity = PLAINTEXT,
        token: Callable[[], tuple[tuple[str, str], ...]] = tuple,
    ) -> None:
        self.own_id = own_id or secrets.token_hex(8)
        self._security = security
        self._token = token
        self._replicas: dict[str, _Replica] = {}
        self._retiring: set[asyncio.Task[None]] = set()

    def use(self, addresses: Set[str]) -> None:
        """The replicas are at these, host:port; sessions with others continue. Raises InvalidChannelSecurity."""
        for gone in self._replicas.keys() - addresses:
            self._retire(self._replicas.pop(gone))
        for new in addresses - self._replicas.keys():
            self._replicas[new] = _Replica(new, self._security)

    def connect_again(self) -> None:
        """New calls use new connections, which read the files of ``security`` again; sessions continue.

        Raises InvalidChannelSecurity.
        """
        made = {address: _Replica(address, self._security) for address in self._replicas}
        former, self._replicas = self._replicas, made
        for replica in former.values():
            self._retire(replica)

    def _retire(self, replica: _Replica) -> None:
        replica.retired = True
        task = asyncio.create_task(replica.close_if_unused())
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def close(self) -> None:
        """Closes the connections."""
        await asyncio.gather(*(replica.close() for replica in self._replicas.values()))

    async def simulators(self, pool: str, *, joining: bool = False) -> list[simulator_pool_pb2.Simulator]:
        """What is attached to the others; of all pools if ``pool`` is empty.

        ``joining``: and what registers there at this moment.
        """
        return [each for _, found in await self._lists(pool, joining) for each in found]

    async def descriptions(self, pool: str, *, joining: bool = False) -> list[environment_pb2.DescribeResponse]:
        """The descriptions of the pool by the replicas that have simulators of it.

        ``joining``: and by those where one registers at this moment; its capacity is 0.
        """
        metadata = ((POOL_METADATA, pool), *self._metadata(joining))
        request = environment_pb2.DescribeRequest()
        answers = await self._ask(lambda replica: replica.describe(request, metadata=metadata, timeout=ANSWER_SECONDS))
        return [answer for _, answer in answers]

    async def serve_session(
        self, link: Link, pool: str, opening: environment_pb2.OpenRequest, more_than: int = 0
    ) -> bool:
        """Serves the session with a free simulator of another replica that has ``more_than`` so many environments.

        Returns whether there was one, when the session has ended. Raises StreamAborted for a status other than OK.
        """
        free = [
            (each.environments, replica.address, replica)
            for replica, found in await self._lists(pool)
            for each in found
            if not each.in_session and more_than < each.environments <= opening.environments
        ]
        asked: set[str] = set()
        for _, address, replica in sorted(free, key=lambda each: each[0], reverse=True):
            if address not in asked and await self._session_with(replica, link, pool, opening):
                return True
            asked.add(address)
        return False

    async def _lists(
        self, pool: str, joining: bool = False
    ) -> list[tuple[_Replica, Sequence[simulator_pool_pb2.Simulator]]]:
        request, metadata = simulator_pool_pb2.ListSimulatorsRequest(pool=pool), self._metadata(joining)
        answers = await self._ask(lambda replica: replica.list(request, metadata=metadata, timeout=ANSWER_SECONDS))
        return [(replica, answer.simulators) for replica, answer in answers]

    async def _ask(self, call: Callable[[_Replica], Any]) -> list[tuple[_Replica, Any]]:
        """The answers of all replicas at the same time, without those that do not answer."""
        replicas = list(self._replicas.values())
        answers = await asyncio.gather(*(call(replica) for replica in replicas), return_exceptions=True)
        found = []
        for replica, answer in zip(replicas, answers, strict=True):
            if not isinstance(answer, BaseException):
                found.append((replica, answer))
            elif not isinstance(answer, grpc.aio.AioRpcError | asyncio.CancelledError):  # or its connection was closed
                raise answer
            elif isinstance(answer, grpc.aio.AioRpcError) and answer.code() in _REFUSED:
                log.warning("replica refuses this one", replica=replica.address, problem=answer.details())
        return found

    def _metadata(self, joining: bool = False) -> tuple[tuple[str, str], ...]:
        joins = ((JOINING_METADATA, "yes"),) if joining else ()
        return ((REPLICA_METADATA, self.own_id), *joins, *self._token())

    async def _session_with(
        self, replica: _Replica, link: Link, pool: str, opening: environment_pb2.OpenRequest
    ) -> bool:
        call = replica.session(metadata=((POOL_METADATA, pool), *self._metadata()))
        replica.sessions += 1
        try:
            first = await _open(call, opening)
            if first is None:
                return False
            log.info("session is with another replica", pool=pool, replica=replica.address, run=opening.run_id)
            await _pass_on(link, call, first)
            return True
        finally:
            call.cancel()  # the trainer has cancelled; no effect otherwise
            replica.sessions -= 1
            await replica.close_if_unused()


async def _open(call: Any, opening: environment_pb2.OpenRequest) -> bytes | None:
    """The reply to `open`; None if another replica may have a free simulator."""
    request = environment_pb2.SimulatorRequest(open=opening)
    try:
        await call.write(request.SerializeToString())
        first: Any = await call.read()
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        first = grpc.aio.EOF
    if first is not grpc.aio.EOF:
        reply: bytes = first
        return reply
    code = await call.code()
    if code in _ELSEWHERE:
        return None
    raise aborted(code, await call.details())


async def _pass_on(link: Link, call: Any, first: bytes) -> None:
    """Passes messages on in both directions until the other replica ends the stream."""
    requests = asyncio.create_task(_pass_requests(link, call))
    try:
        reply: Any = first
        while reply is not grpc.aio.EOF:
            await link.write(reply)
            reply = await call.read()
    except grpc.aio.AioRpcError:
        pass  # its status follows
    finally:
        requests.cancel()
    code = await call.code()
    if code is not grpc.StatusCode.OK:
        raise aborted(code, await call.details())


async def _pass_requests(link: Link, call: Any) -> None:
    try:
        while (message := await link.read()) is not None:
            await call.write(message)
        await call.done_writing()
    except Exception as error:  # of a stream that has ended, whose status the other direction reads
        log.debug("requests end", error=type(error).__name__)

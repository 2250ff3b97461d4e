"""One attached simulator, and the session that it serves: messages in both directions, and the end of each.

Owns the order of messages on the simulator's stream (simulator_pool.proto, Attach). What is held for a slow peer is one
message a direction: the next one is read when the last one is written. Must not know pools or limits.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import threading
from collections.abc import Callable

import grpc
import structlog
from aisandbox.v1 import environment_pb2 as pb
from aisandbox.v1 import simulator_pool_pb2
from aisandbox_process.grpc_direct import StreamAborted
from aisandbox_wire import OversizedMessage, parse_bounded
from google.protobuf.message import DecodeError

from aisandbox_environment.relay.frames import InvalidFrame, field_of, frame
from aisandbox_environment.relay.links import Link, PeerLost
from aisandbox_environment.relay.registrations import Registration, invalid, parsed
from aisandbox_environment.relay.statuses import Status, aborted, ended_message, ended_status

log = structlog.get_logger(__name__)

REGISTER, REPLY, SIMULATOR_ENDED = 1, 2, 3
"""The fields of AttachRequest."""
REGISTERED, REQUEST, SERVICE_ENDED = 1, 2, 3
"""The fields of AttachResponse."""
_REPLY_TAG = bytes((REPLY << 3 | 2,))
"""The first byte of an AttachRequest that is a `reply`."""
_STEP_TAG = bytes((3 << 3 | 2,))
"""The first byte of a SimulatorReply that is a `step`."""


class AttachedSimulator:
    """A simulator that has registered, and its stream. ``ended`` is the end of the stream."""

    __slots__ = (
        "_changing", "_clock", "_end_seconds", "_ending", "_link", "_over", "_session", "_timer", "_unanswered",
        "_writing", "attach_time", "ended", "free_since", "registration", "run_id", "steps",
    )  # fmt: skip

    def __init__(self, link: Link, registration: Registration, clock: Callable[[], float], end_seconds: float) -> None:
        self.registration = registration
        self.attach_time = datetime.datetime.now(datetime.UTC)
        self.run_id = ""
        self.steps = 0
        self.free_since = clock()
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._link = link
        self._clock = clock
        self._end_seconds = end_seconds
        self._writing = asyncio.Lock()
        self._changing = threading.Lock()  # held where a session ends, and where its link's thread sends for it
        self._session: Session | None = None
        self._unanswered = False  # a request that was passed on at once has no reply yet
        self._ending = False  # a side has ended the session, the other has not
        self._over: asyncio.Event | None = None  # there is no session any more, or the stream has ended
        self._timer: asyncio.TimerHandle | None = None

    @property
    def log(self) -> structlog.stdlib.BoundLogger:
        """A log with the simulator's name on every line; made when needed: most simulators only wait."""
        bound: structlog.stdlib.BoundLogger = log.bind(pool=self.registration.pool, instance=self.registration.instance)
        return bound

    @property
    def free(self) -> bool:
        """Whether a session may begin."""
        return self._session is None and not self._ending and not self.ended.done()

    def end(self, status: Status) -> None:
        """Ends the stream of the simulator, and its session with it; again: nothing."""
        if self.ended.done():
            return
        if status is None:
            self.ended.set_result(None)
        else:
            self.ended.set_exception(status)
            self.ended.exception()  # seen, also if nobody waits any more
        self._set_over()
        if self._timer is not None:
            self._timer.cancel()
        session, self._session = self._session, None
        if session is not None:
            why = status.details if status is not None else "it has left the pool"
            session.end(
                aborted(grpc.StatusCode.UNAVAILABLE, f"simulator {self.registration.instance!r} was lost: {why}")
            )

    def begin(self, session: Session, run_id: str) -> None:
        """The simulator, which is free, belongs to the session from now on."""
        self._session = session
        self._unanswered = False
        self._over = asyncio.Event()
        self.run_id = run_id
        self.log.info("session begins", run=run_id)

    async def read_messages(self) -> None:
        """Handles what the simulator sends until it ends; then ``ended`` is done."""
        try:
            while (message := await self._link.read(self._take)) is not None:
                await self._handle(message)
            self.end(None)
        except StreamAborted as error:
            self.end(error)
        except PeerLost as error:
            self.end(aborted(grpc.StatusCode.UNAVAILABLE, str(error)))
        except Exception as error:
            self.end(aborted(grpc.StatusCode.UNAVAILABLE, f"the stream broke ({type(error).__name__})"))

    def _take(self, message: bytes) -> bool:
        """Passes the reply to a request that was passed on at once; see Link.read.

        Others wait until the trainer has room for them: a simulator may send any number.
        """
        session = self._session
        pass_on = None if session is None else session.pass_reply_on
        if pass_on is None or not self._unanswered or message[:1] != _REPLY_TAG:
            return False
        try:
            _, payload = field_of(message)
        except InvalidFrame:
            return False
        self._unanswered = False  # before the trainer has the reply, and may send the next request
        self._count(payload)
        pass_on(payload)
        return True

    def take_request(self, session: Session, message: bytes) -> bool:
        """Passes a request of the session on at once, in the thread of the trainer's link; whether it could."""
        exchange = self._link.exchange
        with self._changing:
            if exchange is None or self._session is not session:
                return False
            self._unanswered = True
            exchange(frame(REQUEST, message))
        return True

    def ask(self) -> None:
        """Sees to it that what the simulator sends by itself is read, also while the trainer sends nothing."""
        self._link.ask()

    def _count(self, reply: bytes) -> None:
        if reply[:1] == _STEP_TAG:
            self.steps += self.registration.environments

    async def request(self, session: Session, message: bytes) -> None:
        """Sends a request of the session; nothing if it is over."""
        async with self._writing:
            if self._session is session:
                await self._link.write(frame(REQUEST, message))

    async def leave(self, session: Session, status: Status) -> None:
        """The trainer has ended the session; nothing if the simulator has done so before."""
        if self._session is not session:
            return
        with self._changing:
            self._session, self._ending = None, True
        self._link.ask()
        self._timer = asyncio.get_running_loop().call_later(self._end_seconds, self._give_up)
        await self._send_ended(status)

    async def _send_ended(self, status: Status) -> None:
        with contextlib.suppress(Exception):  # of a simulator that is lost, which its reader sees too
            async with self._writing:
                await self._link.write(frame(SERVICE_ENDED, ended_message(status)))

    async def _handle(self, message: bytes) -> None:
        try:
            field, payload = field_of(message)
        except InvalidFrame:
            raise invalid("message", "is not an AttachRequest with exactly one field") from None
        if field == REPLY:
            if self._session is not None:
                self._count(payload)
                await self._session.reply(payload)
            elif not self._ending:  # a reply that was on its way when the session ended is discarded
                raise invalid("reply", "came outside a session, which begins with a request `open`")
        elif field == SIMULATOR_ENDED:
            await self._simulator_ended(payload)
        elif field == REGISTER:
            raise invalid("register", "is only the first message of a stream")
        else:
            raise invalid("message", "is not an AttachRequest")

    async def _simulator_ended(self, payload: bytes) -> None:
        status = ended_status(parsed(simulator_pool_pb2.SessionEnded, payload, "session_ended"))
        session = self._session
        if session is None and not self._ending:
            raise invalid("session_ended", "came outside a session")
        if self._timer is not None:
            self._timer.cancel()
        with self._changing:
            self._session, self._ending = None, False
        self.run_id, self.free_since = "", self._clock()
        self._set_over()
        self.log.info("session ended", status="OK" if status is None else status.code.name)
        if session is not None:
            session.end(status)  # of a simulator that is free: the trainer may open the next session at once
            await self._send_ended(None)  # what the next session sends waits for it

    async def wait_until_over(self) -> None:
        """Waits until both sides have ended the session, or the simulator is lost."""
        if self._over is not None:
            await self._over.wait()

    def _set_over(self) -> None:
        over, self._over = self._over, None
        if over is not None:
            over.set()

    def _give_up(self) -> None:
        self.end(
            aborted(
                grpc.StatusCode.UNAVAILABLE,
                f"session_ended: the simulator did not end its side of the session within {self._end_seconds:g} s",
            )
        )


class Session:
    """The trainer's side of a session with a simulator. ``ended`` is the end of the trainer's stream."""

    def __init__(self, trainer: Link, simulator: AttachedSimulator) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._trainer = trainer
        self._simulator = simulator
        self._is_open = False

    def end(self, status: Status) -> None:
        """Ends the trainer's stream; again: nothing."""
        if not self.ended.done():
            if status is None:
                self.ended.set_result(None)
            else:
                self.ended.set_exception(status)
                self.ended.exception()

    async def leave(self) -> None:
        """Tells the simulator that the trainer was lost or has cancelled the session, unless it knows that already."""
        status = aborted(grpc.StatusCode.CANCELLED, "the trainer was lost or has cancelled the session")
        await self._simulator.leave(self, status)

    async def reply(self, message: bytes) -> None:
        """Passes a reply on to the trainer. One that is lost is seen by the reader of its requests."""
        if not self._is_open:
            message = self._opened(message)
        with contextlib.suppress(Exception):
            await self._trainer.write(message)

    def ask(self) -> None:
        """See AttachedSimulator.ask."""
        self._simulator.ask()

    @property
    def pass_reply_on(self) -> Callable[[bytes], None] | None:
        """Passes a reply on at once, in the thread of the simulator's link; None: this session cannot, or not yet."""
        return self._trainer.exchange if self._is_open else None

    def _take(self, message: bytes) -> bool:
        return self._simulator.take_request(self, message)

    async def pass_requests(self, opening: pb.OpenRequest) -> None:
        """Passes requests on until the trainer or the simulator ends the session, then tells the simulator."""
        opening.environments = self._simulator.registration.environments
        ended = False
        try:
            await self._simulator.request(self, pb.SimulatorRequest(open=opening).SerializeToString())
            while not self.ended.done() and not ended:
                message = await self._trainer.read(self._take)
                ended = message is None
                if message is not None:
                    await self._simulator.request(self, message)
        except Exception as error:
            self._simulator.log.info("session broke", error=type(error).__name__)
        if ended:
            await self._simulator.leave(self, None)
        else:
            await self.leave()
        await self._simulator.wait_until_over()  # a trainer that has read the end may count on the simulator being free
        self.end(None)

    def _opened(self, message: bytes) -> bytes:
        """The first reply, which says how many environments the session has."""
        try:
            reply = parse_bounded(pb.SimulatorReply, message)
        except (DecodeError, OversizedMessage):
            return message  # the trainer says what is wrong with it
        if reply.WhichOneof("reply") != "open":
            return message
        self._is_open = True
        reply.open.environments = self._simulator.registration.environments
        return reply.SerializeToString()

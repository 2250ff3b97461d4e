"""A simulation that dials the service: one simulator of a pool, as the contract of SimulatorPoolService says.

Owns the order of messages, the attempts to attach again, and which refusals are final. Must not know what is simulated.
"""

from __future__ import annotations

import os
import random
import secrets
import socket
import threading
from collections.abc import Callable
from dataclasses import replace

import grpc
import structlog
from aisandbox.v1 import simulator_pool_pb2 as pb
from aisandbox_process import split_host_port
from aisandbox_process.grpc_direct import ClientStream, StreamAborted, StreamEnded, open_stream
from aisandbox_process.grpc_tls import channel_credentials, name_options
from aisandbox_process.tls import (
    PLAINTEXT,
    ChannelSecurity,
    InvalidChannelSecurity,
    connection_problem,
    speaks_tls,
    split_scheme,
)
from google.protobuf.message import DecodeError

from aisandbox_environment.addresses import single_address
from aisandbox_environment.channels import ATTACH_METHOD, ATTACH_OPTIONS
from aisandbox_environment.errors import AttachRefused
from aisandbox_environment.relay.frames import InvalidFrame, field_of, frame
from aisandbox_environment.session_handler import Capacity, SessionHandler
from aisandbox_environment.simulation import Simulation
from aisandbox_environment.spec import PROTOCOL_VERSION, check_reply_timeout

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 30.0
"""The pause before a simulator that has lost the service attaches again; doubled each time."""

_FINAL = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNIMPLEMENTED,
)
"""What no later attempt can change."""
_REQUEST = pb.AttachResponse.REQUEST_FIELD_NUMBER
_ENDED = pb.AttachResponse.SESSION_ENDED_FIELD_NUMBER
_JITTER = random.Random()  # noqa: S311  (its own generator: an environment may have seeded the global one)

log = structlog.get_logger(__name__)


def attach(
    simulation: Simulation,
    address: str,
    pool: str,
    *,
    environments: int = 1,
    instance: str = "",
    on_attached: Callable[[str], None] | None = None,
    reply_timeout: float = 0.0,
    security: ChannelSecurity = PLAINTEXT,
) -> None:
    """Attach ``simulation`` to ``pool`` of the service at ``address``, and serve its sessions.

    ``address``: ``host:port``, or ``https://host:port`` for TLS.

    Blocks: it is for a program that does nothing else. ``environments``: how many each session has. ``instance``: the
    name of this simulator in the pool; default: the host's and a number; ``on_attached`` gets it when it is attached.
    ``reply_timeout``: as for :func:`create_environment_server`. ``security``: TLS, and the token of who attaches; their
    files are read again for each connection.
    A connection that is lost is made again. Raises AttachRefused if the service refuses the simulator for good,
    InvalidAddress, InvalidChannelSecurity, InvalidValue for a wrong ``reply_timeout``; KeyboardInterrupt, and whatever
    a signal handler raises, ends the stream at once and is raised again.
    """
    Attachment(
        simulation,
        address,
        pool,
        environments=environments,
        instance=instance,
        security=security,
        reply_timeout=reply_timeout,
    ).run(on_attached)


class Attachment:
    """As :func:`attach`, to be stopped from another thread."""

    def __init__(
        self,
        simulation: Simulation,
        address: str,
        pool: str,
        *,
        environments: int = 1,
        instance: str = "",
        security: ChannelSecurity = PLAINTEXT,
        first_pause: float = FIRST_PAUSE_SECONDS,
        direct: bool | None = None,
        reply_timeout: float = 0.0,
    ) -> None:
        self.instance = instance or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"
        host_port, tls = split_scheme(address)
        self._address = single_address(host_port)
        self._simulation = simulation
        self._register = pb.RegisterSimulator(
            pool=pool,
            instance=self.instance,
            protocol_version=PROTOCOL_VERSION,
            environments=environments,
            spec=simulation.spec.to_proto(),
            name=simulation.name,
            version=simulation.version,
        )
        self._security = security if tls is None else replace(security, tls=tls)
        self._first_pause = first_pause
        self._direct = direct
        self._reply_timeout = check_reply_timeout(reply_timeout, "reply_timeout")
        self._stopped = threading.Event()
        self._stream: ClientStream | None = None
        self._log = log.bind(pool=pool, instance=self.instance, service=self._address)

    def run(self, on_attached: Callable[[str], None] | None = None) -> None:
        """Serve until :meth:`stop`. Raises as :func:`attach`."""
        pause, attached = self._first_pause, False
        while not self._stopped.is_set():
            state = _StreamState(self._simulation, self._reply_timeout)
            try:
                self._serve(state, on_attached or (lambda _instance: None))
            except StreamEnded as end:
                if self._stopped.is_set():
                    return
                # A token that was good may be about to be renewed.
                expired = attached and end.code is grpc.StatusCode.UNAUTHENTICATED and self._security.token_file
                if end.code in _FINAL and not expired:
                    raise AttachRefused(self._address, _sentence(end)) from None
                if state.registered:
                    pause, attached = self._first_pause, True
                problem = end.details if state.registered else self._problem(end)
                self._log.warning("not attached, trying again", code=end.code.name, problem=problem, seconds=pause)
            except InvalidChannelSecurity as error:
                if not attached:
                    raise
                self._log.warning("not attached, trying again", problem=str(error), seconds=pause)
            finally:
                state.end_session()
            self._stopped.wait(pause * _JITTER.uniform(0.8, 1.2))
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def stop(self) -> None:
        """End the stream, from any thread; :meth:`run` returns when the environments are freed."""
        self._stopped.set()
        stream = self._stream
        if stream is not None:
            stream.cancel()

    def _problem(self, end: StreamEnded) -> str:
        """What is wrong, with a sentence about TLS if it is that."""
        host, port = split_host_port(self._address.removeprefix("dns:///"))
        security = self._security
        said = connection_problem(end.details, name=security.server_name or host, ca_file=str(security.ca_file or ""))
        if not security.tls and end.code is grpc.StatusCode.UNAVAILABLE and speaks_tls(host, port):
            said = "the service uses TLS: use https:// or name the CA of its certificate"
        return said or end.details

    def _serve(self, state: _StreamState, on_attached: Callable[[str], None]) -> None:
        """One stream, until it ends. Raises StreamEnded."""
        stream = self._stream = open_stream(
            f"dns:///{self._address}",
            ATTACH_METHOD,
            [*ATTACH_OPTIONS, *name_options(self._security)],
            metadata=self._security.metadata(self._address),
            credentials=channel_credentials(self._security),
            direct=self._direct,
        )
        try:
            if self._stopped.is_set():
                stream.cancel()
            stream.send(pb.AttachRequest(register=self._register).SerializeToString())
            registered = _registered(stream.receive())
            state.registered = True
            self._log.info("attached", service_version=registered.service_version)
            on_attached(self.instance)
            stream.start_receive()
            while True:
                answer = state.answer(stream.receive())
                if answer is None:
                    stream.start_receive()
                else:
                    stream.send(answer)
        finally:
            self._stream = None
            stream.close()


class _StreamState:
    """What one stream is in the middle of."""

    def __init__(self, simulation: Simulation, reply_timeout: float) -> None:
        self.registered = False
        self._simulation = simulation
        self._reply_timeout = reply_timeout
        self._session: SessionHandler | None = None
        self._ending = False
        """This side has ended the session, and the other has not said so yet."""

    def answer(self, data: bytes) -> bytes | None:
        """What is sent for a message of the service; None: nothing. Raises StreamEnded for what is no message."""
        try:
            field, message = field_of(data)
        except InvalidFrame:
            raise StreamEnded(grpc.StatusCode.DATA_LOSS, "the service sent what is no AttachResponse") from None
        if field == _REQUEST:
            return None if self._ending else self._reply(message)
        if field != _ENDED:
            return None
        answered, self._ending = self._ending, False
        self.end_session()
        return None if answered else pb.AttachRequest(session_ended=pb.SessionEnded()).SerializeToString()

    def end_session(self) -> None:
        """Free the environments."""
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def _reply(self, request: bytes) -> bytes:
        if self._session is None:
            self._session = SessionHandler(self._simulation, Capacity(0), self._reply_timeout)
        try:
            return frame(pb.AttachRequest.REPLY_FIELD_NUMBER, self._session.handle(request))
        except StreamAborted as end:
            self._ending = True
            self.end_session()
            ended = pb.SessionEnded(code=end.code.value[0], message=end.details)
            return pb.AttachRequest(session_ended=ended).SerializeToString()


def _registered(data: bytes) -> pb.SimulatorRegistered:
    try:
        response = pb.AttachResponse.FromString(data)
    except DecodeError:
        response = pb.AttachResponse()
    if response.WhichOneof("message") != "registered":
        raise StreamEnded(grpc.StatusCode.DATA_LOSS, "the service did not answer `register` with `registered`")
    return response.registered


def _sentence(end: StreamEnded) -> str:
    if end.code is grpc.StatusCode.UNIMPLEMENTED:
        return f"what answers there has no pools of simulators; is it the address of the service? ({end.details})"
    return end.details or end.code.name

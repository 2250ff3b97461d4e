"""The client's calls of EnvironmentService: Describe, the Session stream, and the errors that their statuses mean.

Must not know what is said on a stream.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import structlog
from aisandbox.v1 import environment_pb2 as pb
from aisandbox.v1 import simulator_pool_pb2 as pool_pb
from aisandbox.v1 import simulator_pool_pb2_grpc as pool_services
from aisandbox_process.grpc_direct import ClientStream, open_stream
from aisandbox_process.grpc_tls import channel_credentials, name_options, open_channel
from aisandbox_process.local_streams import LocalStream
from aisandbox_process.tls import PLAINTEXT, ChannelSecurity, connection_problem
from aisandbox_wire import WireError, parse_bounded
from google.protobuf.message import DecodeError
from grpc import StatusCode

from aisandbox_environment.addresses import single_address
from aisandbox_environment.channels import (
    CLIENT_OPTIONS,
    DESCRIBE_METHOD,
    POOL_METADATA,
    SESSION_METHOD,
    client_options,
)
from aisandbox_environment.errors import (
    AtCapacity,
    InvalidReply,
    ProtocolMismatch,
    RefusedRequest,
    SimulationFailed,
    SimulatorError,
    SimulatorLost,
    SimulatorUnreachable,
)
from aisandbox_environment.raw_probe import ProbeCache
from aisandbox_environment.spec import PROTOCOL_VERSION, read_spec
from aisandbox_environment.targets import says_what_answers, simulator_networks, target_of

log = structlog.get_logger(__name__)

Metadata = Sequence[tuple[str, str]]
"""The metadata of a call: names in lower case, and their values."""

_ERRORS: dict[StatusCode, type[SimulatorError]] = {
    StatusCode.RESOURCE_EXHAUSTED: AtCapacity,
    StatusCode.FAILED_PRECONDITION: ProtocolMismatch,
    StatusCode.UNIMPLEMENTED: ProtocolMismatch,
    StatusCode.INVALID_ARGUMENT: RefusedRequest,
    StatusCode.OUT_OF_RANGE: RefusedRequest,
    StatusCode.NOT_FOUND: RefusedRequest,
    StatusCode.PERMISSION_DENIED: RefusedRequest,
    StatusCode.UNAUTHENTICATED: RefusedRequest,
    StatusCode.INTERNAL: SimulationFailed,
    StatusCode.DATA_LOSS: InvalidReply,
}
_PROBES = ProbeCache()
_HANDLER_FAILED = "the simulator's own code raised an exception; its log, not this one, says which and where"
LARGEST_SPEC = 4 * 1024 * 1024
"""Bytes of a description, or of the first reply of a session: what a gRPC client of default settings takes."""
_NO_ANSWER = "cannot be reached, or is not a simulator"
_UNIMPLEMENTED = "what answers there does not serve aisandbox.v1.EnvironmentService; is it the simulator's port?"


def describe(
    address: str, timeout: float = 5.0, *, pool: str = "", security: ChannelSecurity = PLAINTEXT
) -> pb.DescribeResponse:
    """What the simulator at ``address`` (one ``host:port``) is, within ``timeout`` seconds; its spec is checked.

    With ``pool``, ``address`` is the service, and the answer is about the simulators of that pool. ``security``: of the
    channel to the service; simulators are dialled in plain text. Raises SimulatorError: SimulatorUnreachable,
    ProtocolMismatch (another version, or no simulator), InvalidReply, InvalidAddress; InvalidChannelSecurity.
    """
    address = single_address(address)
    options = client_options(largest_reply=LARGEST_SPEC)
    with open_channel(_target(address, pool), security if pool else PLAINTEXT, options) as channel:
        try:
            call: Any = channel.unary_unary(DESCRIBE_METHOD)  # bytes: gRPC would log what cannot be parsed
            data: bytes = call(pb.DescribeRequest().SerializeToString(), timeout=timeout, metadata=_metadata(pool))
        except grpc.RpcError as error:
            code, details = error.code(), error.details() or ""
            if code is StatusCode.DEADLINE_EXCEEDED:
                raise no_answer(address, f"did not answer within {timeout:g} s") from None
            if code is StatusCode.RESOURCE_EXHAUSTED and "larger than max" in details:  # gRPC's, of this end
                raise InvalidReply(address, f"sent a description of more than {LARGEST_SPEC:,} bytes") from None
            raise error_from_status(address, code, details, opened=False) from None
    try:
        response = parse_bounded(pb.DescribeResponse, data)
    except (DecodeError, WireError):
        raise InvalidReply(address, "sent a description that cannot be parsed") from None
    if response.protocol_version != PROTOCOL_VERSION:
        raise ProtocolMismatch(
            address, f"speaks protocol version {response.protocol_version}; this client speaks {PROTOCOL_VERSION}"
        )
    try:
        read_spec(response.spec)
    except WireError as error:
        raise InvalidReply(address, f"sent an invalid reply: describe.{error}") from None
    return response


def list_simulators(
    address: str,
    pool: str = "",
    timeout: float = 5.0,
    *,
    security: ChannelSecurity = PLAINTEXT,
    metadata: Metadata = (),
) -> list[pool_pb.Simulator]:
    """The simulators that are attached to the service at ``address``; of one ``pool``, or of all.

    ``metadata``: of a trainer, which says whose it is; it may see its own pool.
    Raises SimulatorError and InvalidChannelSecurity, as :func:`describe`.
    """
    address = single_address(address)
    with open_channel(f"dns:///{address}", security, CLIENT_OPTIONS) as channel:
        try:
            response: pool_pb.ListSimulatorsResponse = pool_services.SimulatorPoolServiceStub(channel).ListSimulators(
                pool_pb.ListSimulatorsRequest(pool=pool), timeout=timeout, metadata=(*_metadata(pool), *metadata)
            )
        except grpc.RpcError as error:
            code, details = error.code(), error.details() or ""
            if code is StatusCode.UNIMPLEMENTED:
                raise ProtocolMismatch(address, f"has no pools of simulators ({details}); is it the service?") from None
            if code is StatusCode.DEADLINE_EXCEEDED:
                raise no_answer(address, f"did not answer within {timeout:g} s") from None
            raise error_from_status(address, code, details, opened=False) from None
    return list(response.simulators)


def open_session_stream(
    address: str,
    *,
    pool: str = "",
    security: ChannelSecurity = PLAINTEXT,
    metadata: Metadata = (),
    socket: Path | None = None,
    direct: bool | None = None,
    largest_reply: int = -1,
) -> ClientStream:
    """A Session stream to ``address`` on a channel of its own; see ``aisandbox_process.grpc_direct.open_stream``.

    With ``pool``, ``address`` is the service, and the session is with a simulator of that pool. ``metadata``: of a
    trainer, which says whose it is. ``socket``: the service's Unix socket, which is used instead if it can be.
    ``largest_reply``: in bytes; -1: no limit. Raises InvalidAddress, SimulatorUnreachable; see :func:`target_of`;
    InvalidChannelSecurity.
    """
    if socket is not None and pool and (stream := _local_stream(socket, (*_metadata(pool), *metadata))) is not None:
        return stream
    security = security if pool else PLAINTEXT
    return open_stream(
        _target(address, pool),
        SESSION_METHOD,
        [*client_options(largest_reply=largest_reply), *name_options(security)],
        metadata=(*_metadata(pool), *security.metadata(address), *metadata),
        credentials=channel_credentials(security),
        direct=direct,
    )


def _local_stream(socket: Path, metadata: Metadata) -> ClientStream | None:
    try:
        return LocalStream(socket, metadata)
    except OSError as error:
        problem = error.strerror or str(error)
        log.warning(
            "the service's socket cannot be used, using gRPC, which is slower", socket=str(socket), error=problem
        )
        return None


def _target(address: str, pool: str) -> str:
    """What gRPC dials; the service is no simulator, whose networks an administrator may name."""
    return f"dns:///{address}" if pool else target_of(address)


def _metadata(pool: str) -> tuple[tuple[str, str], ...]:
    return ((POOL_METADATA, pool),) if pool else ()


def error_from_status(address: str, code: StatusCode, details: str, *, opened: bool) -> SimulatorError:
    """The error for a call to ``address`` that ended with ``code``; ``opened``: the simulator had replied before."""
    if code is StatusCode.UNIMPLEMENTED:
        return ProtocolMismatch(address, f"{_UNIMPLEMENTED} ({details})" if says_what_answers() else _UNIMPLEMENTED)
    if code is StatusCode.UNKNOWN:  # what gRPC makes of an exception that leaves a handler, in every language
        return SimulationFailed(address, f"{_HANDLER_FAILED} (UNKNOWN: {details})")
    error = _ERRORS.get(code)
    if error is not None:
        return error(address, details or code.name)
    if not opened and code is StatusCode.OK:
        return SimulatorUnreachable(address, "ended the stream without a reply")
    if not opened:
        host = address.rpartition(":")[0]
        if problem := connection_problem(details, name=host, ca_file="the CA file"):
            return SimulatorUnreachable(address, problem)
        return no_answer(address, f"cannot be reached, is it running? ({code.name}: {details})")
    if code is StatusCode.OK:
        return SimulatorLost(address, "ended the session")
    return SimulatorLost(address, f"the connection broke ({code.name}: {details})")


def no_answer(address: str, problem: str) -> SimulatorUnreachable:
    """The error for a simulator that no call reached: connects once more, at times, to say what listens there.

    With SIMULATOR_DIAGNOSTICS=off the error is the same whatever is there, and the log says what is known: the status
    of a run goes to people who may not look around in the network of its trainer.
    """
    if not says_what_answers():
        log.info("simulator does not answer", address=address, problem=problem)
        return SimulatorUnreachable(address, _NO_ANSWER)
    found = "" if simulator_networks(os.environ) else _PROBES.of(address)
    return SimulatorUnreachable(address, f"{problem}; {found}" if found else problem)

"""The client's calls of EnvironmentService: Describe, the Session stream, and the errors that their statuses mean.

Must not know what is said on a stream.
"""

from __future__ import annotations

import grpc
from aisandbox.v1 import environment_pb2 as pb
from aisandbox.v1 import environment_pb2_grpc as services
from aisandbox_process.grpc_direct import ClientStream, open_stream
from aisandbox_wire import WireError
from grpc import StatusCode

from aisandbox_environment.addresses import single_address
from aisandbox_environment.channels import CLIENT_OPTIONS, SESSION_METHOD
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
from aisandbox_environment.raw_probe import RecentAnswers
from aisandbox_environment.spec import PROTOCOL_VERSION, read_spec

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
_ANSWERS = RecentAnswers()
_HANDLER_FAILED = "the simulator's own code raised an exception; its log, not this one, says which and where"
_UNIMPLEMENTED = "what answers there does not serve aisandbox.v1.EnvironmentService; is it the simulator's port?"


def describe(address: str, timeout: float = 5.0) -> pb.DescribeResponse:
    """What the simulator at ``address`` (one ``host:port``) is, within ``timeout`` seconds; its spec is checked.

    Raises SimulatorError: SimulatorUnreachable, ProtocolMismatch (another version, or no simulator), InvalidReply,
    InvalidAddress.
    """
    address = single_address(address)
    with grpc.insecure_channel(address, CLIENT_OPTIONS) as channel:
        try:
            response: pb.DescribeResponse = services.EnvironmentServiceStub(channel).Describe(
                pb.DescribeRequest(), timeout=timeout
            )
        except grpc.RpcError as error:
            code, details = error.code(), error.details() or ""
            if code is StatusCode.DEADLINE_EXCEEDED:
                raise no_answer(address, f"did not answer within {timeout:g} s") from None
            raise error_from_status(address, code, details, opened=False) from None
    if response.protocol_version != PROTOCOL_VERSION:
        raise ProtocolMismatch(
            address, f"speaks protocol version {response.protocol_version}; this client speaks {PROTOCOL_VERSION}"
        )
    try:
        read_spec(response.spec)
    except WireError as error:
        raise InvalidReply(address, f"sent an invalid reply: describe.{error}") from None
    return response


def open_session_stream(address: str, *, direct: bool | None = None) -> ClientStream:
    """A Session stream to ``address`` on a channel of its own; see ``aisandbox_process.grpc_direct.open_stream``."""
    return open_stream(address, SESSION_METHOD, CLIENT_OPTIONS, direct=direct)


def error_from_status(address: str, code: StatusCode, details: str, *, opened: bool) -> SimulatorError:
    """The error for a call to ``address`` that ended with ``code``; ``opened``: the simulator had replied before."""
    if code is StatusCode.UNIMPLEMENTED:
        return ProtocolMismatch(address, f"{_UNIMPLEMENTED} ({details})")
    if code is StatusCode.UNKNOWN:  # what gRPC makes of an exception that leaves a handler, in every language
        return SimulationFailed(address, f"{_HANDLER_FAILED} (UNKNOWN: {details})")
    error = _ERRORS.get(code)
    if error is not None:
        return error(address, details or code.name)
    if not opened and code is StatusCode.OK:
        return SimulatorUnreachable(address, "ended the stream without a reply")
    if not opened:
        return no_answer(address, f"cannot be reached, is it running? ({code.name}: {details})")
    if code is StatusCode.OK:
        return SimulatorLost(address, "ended the session")
    return SimulatorLost(address, f"the connection broke ({code.name}: {details})")


def no_answer(address: str, problem: str) -> SimulatorUnreachable:
    """The error for a simulator that no call reached: connects once more, at times, to say what listens there."""
    found = _ANSWERS.of(address)
    return SimulatorUnreachable(address, f"{problem}; {found}" if found else problem)

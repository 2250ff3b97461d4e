"""How a gRPC status that ends a call maps to the errors of :mod:`aisandbox_environment.errors`."""

from __future__ import annotations

from grpc import StatusCode

from aisandbox_environment.errors import (
    AtCapacity,
    ProtocolMismatch,
    RefusedRequest,
    SimulationFailed,
    SimulatorError,
    SimulatorLost,
    SimulatorUnreachable,
)

_TYPES: dict[StatusCode, type[SimulatorError]] = {
    StatusCode.RESOURCE_EXHAUSTED: AtCapacity,
    StatusCode.FAILED_PRECONDITION: ProtocolMismatch,
    StatusCode.UNIMPLEMENTED: ProtocolMismatch,
    StatusCode.INVALID_ARGUMENT: RefusedRequest,
    StatusCode.OUT_OF_RANGE: RefusedRequest,
    StatusCode.NOT_FOUND: RefusedRequest,
    StatusCode.PERMISSION_DENIED: RefusedRequest,
    StatusCode.UNAUTHENTICATED: RefusedRequest,
    StatusCode.INTERNAL: SimulationFailed,
}
_UNIMPLEMENTED = "what answers there does not serve aisandbox.v1.EnvironmentService; is it the simulator's port?"


def error_of_status(address: str, code: StatusCode, details: str, *, opened: bool) -> SimulatorError:
    """The error for a call to ``address`` that ended with ``code``; ``opened`` if the simulator had answered before."""
    if code is StatusCode.UNIMPLEMENTED:
        return ProtocolMismatch(address, f"{_UNIMPLEMENTED} ({details})")
    kind = _TYPES.get(code)
    if kind is not None:
        return kind(address, details or code.name)
    if not opened and code is StatusCode.OK:
        return SimulatorUnreachable(address, "ended the stream without a reply")
    if not opened:
        return SimulatorUnreachable(address, f"cannot be reached, is it running? ({code.name}: {details})")
    if code is StatusCode.OK:
        return SimulatorLost(address, "ended the session")
    return SimulatorLost(address, f"the connection broke ({code.name}: {details})")

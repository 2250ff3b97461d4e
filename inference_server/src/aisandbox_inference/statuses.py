"""The one place where errors become gRPC statuses.

Owns the choice of code, message and details for every error a call may meet. Must not know the calls.
"""

from __future__ import annotations

from concurrent.futures import CancelledError
from typing import Any, NoReturn

import grpc
import structlog
from aisandbox_model_store import Damaged, InvalidRunId, InvalidSelector, ModelNotFound, RunNotFound
from aisandbox_wire.errors import WireError
from google.protobuf import any_pb2
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from aisandbox_inference.errors import InvalidField, ModelTooLarge, Stopping, TooManyObservations, UnusableModel

log = structlog.get_logger(__name__)


def status_of(error: Exception) -> status_pb2.Status:
    """Return the status a call that met ``error`` ends with; what is not foreseen is logged and INTERNAL."""
    match error:
        case InvalidField() | WireError():
            return _invalid(error.field, error.rule)
        case InvalidSelector():
            return _invalid("model", f"{error.rule}, and is {error.selector!r}")
        case RunNotFound() | InvalidRunId():
            return _status(code_pb2.NOT_FOUND, error)
        case ModelNotFound():
            return _status(code_pb2.FAILED_PRECONDITION, error)
        case TooManyObservations() | ModelTooLarge():
            return _status(code_pb2.RESOURCE_EXHAUSTED, error)
        case Damaged() | UnusableModel():
            return _status(code_pb2.DATA_LOSS, error)
        case Stopping():
            return _status(code_pb2.UNAVAILABLE, error)
        case CancelledError():
            return status_pb2.Status(code=code_pb2.CANCELLED, message="nobody waits for the answer any longer")
        case DecodeError():
            return status_pb2.Status(code=code_pb2.INVALID_ARGUMENT, message="the request is no message of this method")
        case OSError():
            log.warning("store unreadable", error=str(error))
            return status_pb2.Status(
                code=code_pb2.UNAVAILABLE, message=f"the model store cannot be read now: {error.strerror or error}"
            )
        case _:
            log.error("call failed", error=str(error), exc_info=error)
            return status_pb2.Status(code=code_pb2.INTERNAL, message="internal error; the server's log has the details")


def _status(code: int, error: Exception) -> status_pb2.Status:
    return status_pb2.Status(code=code, message=str(error))


def _invalid(field: str, rule: str) -> status_pb2.Status:
    violation = error_details_pb2.BadRequest.FieldViolation(field=field, description=rule)
    details = any_pb2.Any()
    details.Pack(error_details_pb2.BadRequest(field_violations=[violation]))
    return status_pb2.Status(code=code_pb2.INVALID_ARGUMENT, message=f"{field}: {rule}", details=[details])


async def abort(context: grpc.aio.ServicerContext[Any, Any], status: status_pb2.Status) -> NoReturn:
    """End the call with ``status``, its details included."""
    grpc_status = rpc_status.to_status(status)
    await context.abort(grpc_status.code, grpc_status.details, grpc_status.trailing_metadata)
    raise AssertionError("abort returned")

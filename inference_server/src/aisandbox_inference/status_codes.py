"""The one mapping from errors to gRPC statuses.

Owns the code, the message and the google.rpc details of every error. Must not know the calls.
"""

from __future__ import annotations

from concurrent.futures import CancelledError

import structlog
from aisandbox_access import AccessError
from aisandbox_access import status_of as access_status_of
from aisandbox_model_store import Damaged, InvalidRunId, InvalidSelector, ModelNotFound, RunNotFound, unknown_run
from aisandbox_wire import OversizedMessage, WireError
from google.protobuf import any_pb2
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2

from aisandbox_inference.errors import InvalidField, ModelTooLarge, Stopping, TooManyObservations, UnusableModel

log = structlog.get_logger(__name__)


def status_of(error: Exception) -> status_pb2.Status:
    """Return the status that a call ends with when it raises ``error``; an unexpected error is logged, and INTERNAL."""
    match error:
        case OversizedMessage():
            return status_pb2.Status(code=code_pb2.INVALID_ARGUMENT, message=f"the request {error.rule}")
        case InvalidField() | WireError():
            return _invalid(error.field, error.rule)
        case InvalidSelector():
            return _invalid("model", f"{error.rule}, got {error.selector!r}")
        case RunNotFound() | InvalidRunId():
            return _run_not_found(error.run)
        case ModelNotFound():
            return _status(code_pb2.FAILED_PRECONDITION, error)
        case TooManyObservations() | ModelTooLarge():
            return _status(code_pb2.RESOURCE_EXHAUSTED, error)
        case Damaged() | UnusableModel():
            return _status(code_pb2.DATA_LOSS, error)
        case Stopping():
            return _status(code_pb2.UNAVAILABLE, error)
        case AccessError():
            return _status(access_status_of(error).value[0], error)
        case CancelledError():
            return status_pb2.Status(code=code_pb2.CANCELLED, message="the client has cancelled the call")
        case DecodeError():
            return status_pb2.Status(
                code=code_pb2.INVALID_ARGUMENT,
                message="the request cannot be parsed: it is not a message of this method",
            )
        case OSError():
            log.warning("model store not readable", error=str(error))
            return status_pb2.Status(
                code=code_pb2.UNAVAILABLE,
                message=f"the model store is not readable at the moment: {error.strerror or error}",
            )
        case _:
            log.error("unexpected error in a call", error=str(error), exc_info=error)
            return status_pb2.Status(code=code_pb2.INTERNAL, message="internal error; see the server's log")


def _status(code: int, error: Exception) -> status_pb2.Status:
    return status_pb2.Status(code=code, message=str(error))


def _run_not_found(run: str) -> status_pb2.Status:
    details = any_pb2.Any()
    details.Pack(error_details_pb2.ResourceInfo(resource_type="TrainingRun", resource_name=run))
    return status_pb2.Status(code=code_pb2.NOT_FOUND, message=unknown_run(run), details=[details])


def _invalid(field: str, rule: str) -> status_pb2.Status:
    violation = error_details_pb2.BadRequest.FieldViolation(field=field, description=rule)
    details = any_pb2.Any()
    details.Pack(error_details_pb2.BadRequest(field_violations=[violation]))
    return status_pb2.Status(code=code_pb2.INVALID_ARGUMENT, message=f"{field}: {rule}", details=[details])

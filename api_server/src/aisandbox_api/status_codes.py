"""The one mapping from errors to gRPC statuses.

Owns the codes and their google.rpc details, as the comments of policy_trainer.proto promise them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import structlog
from aisandbox_access import AccessError
from aisandbox_access import status_of as access_status_of
from aisandbox_crds import FieldError, InvalidRun
from aisandbox_model_store import DiskFull, InvalidRunId, OutsideRoot, unknown_run
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from aisandbox_api import errors
from aisandbox_api.status_size import is_too_large, shortened_errors, shortened_sentence

log = structlog.get_logger()


@asynccontextmanager
async def abort_on_error(context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[None]:
    """Aborts the call with the gRPC status of an exception that leaves the block."""
    try:
        yield
    except (grpc.aio.AbortError, grpc.aio.UsageError):
        raise
    except Exception as error:
        code, details = status_of(error)
        if code is grpc.StatusCode.INTERNAL:
            log.exception("call failed", error=str(error))
        status = _status(code, message_of(error, code), details)
        await context.abort(status.code, status.details, status.trailing_metadata)


def status_of(error: Exception) -> tuple[grpc.StatusCode, Message | None]:
    """The code and the details of an error."""
    match error:
        case errors.InvalidRequest() | InvalidRun():
            return grpc.StatusCode.INVALID_ARGUMENT, _bad_request(shortened_errors(error.errors))
        case OutsideRoot():
            return grpc.StatusCode.INVALID_ARGUMENT, _bad_request([FieldError("model_output_path", error.rule)])
        case errors.RunUnknown() | InvalidRunId():
            resource = error_details_pb2.ResourceInfo(resource_type="TrainingRun", resource_name=error.run[:100])
            return grpc.StatusCode.NOT_FOUND, resource
        case errors.RequestIdTaken():
            resource = error_details_pb2.ResourceInfo(resource_type="TrainingRun", resource_name=error.run)
            return grpc.StatusCode.ALREADY_EXISTS, resource
        case errors.RunDone():
            return grpc.StatusCode.FAILED_PRECONDITION, _precondition("RunDone", error.run, str(error))
        case errors.FailedPrecondition():
            return grpc.StatusCode.FAILED_PRECONDITION, _precondition(error.kind, error.subject, str(error))
        case errors.LimitReached():
            return grpc.StatusCode.RESOURCE_EXHAUSTED, _quota(error.limit, str(error))
        case DiskFull():
            return grpc.StatusCode.RESOURCE_EXHAUSTED, _quota(str(error.path), str(error))
        case errors.NotAuthenticated():
            return grpc.StatusCode.UNAUTHENTICATED, None
        case errors.NotPermitted():
            return grpc.StatusCode.PERMISSION_DENIED, None
        case errors.AttemptOver():
            return grpc.StatusCode.FAILED_PRECONDITION, None
        case AccessError():
            return access_status_of(error), None
        case errors.ServiceStopping() | errors.BackendUnavailable():
            return grpc.StatusCode.UNAVAILABLE, None
    return grpc.StatusCode.INTERNAL, None


def message_of(error: Exception, code: grpc.StatusCode) -> str:
    """The message of the status; the text of an internal error stays in the log, as it may hold data of others."""
    if code is grpc.StatusCode.INTERNAL:
        if isinstance(error, OSError):
            return f"the service cannot use its files: {error.strerror or error}; see its log"
        return f"internal error of the service ({type(error).__name__}); see its log"
    if isinstance(error, errors.InvalidRequest | InvalidRun):
        return "; ".join(map(str, shortened_errors(error.errors)))
    if isinstance(error, InvalidRunId):  # what can be the name of no run is the name of no run
        return unknown_run(error.run)
    if isinstance(error, OutsideRoot):
        return shortened_sentence(f"model_output_path: {error.rule}, got {error.path[:200]!r}")
    return shortened_sentence(str(error))


def _status(code: grpc.StatusCode, message: str, details: Message | None) -> Any:
    number, _ = code.value
    status = status_pb2.Status(code=number, message=message)
    if details is not None and not is_too_large(message, details):
        packed = AnyMessage()
        packed.Pack(details)
        status.details.append(packed)
    return rpc_status.to_status(status)


def _bad_request(broken: Iterable[FieldError]) -> Any:
    violations = [error_details_pb2.BadRequest.FieldViolation(field=e.field, description=e.rule) for e in broken]
    return error_details_pb2.BadRequest(field_violations=violations)


def _precondition(kind: str, subject: str, description: str) -> Any:
    violation = error_details_pb2.PreconditionFailure.Violation(
        type=kind, subject=subject, description=shortened_sentence(description)
    )
    return error_details_pb2.PreconditionFailure(violations=[violation])


def _quota(subject: str, description: str) -> Any:
    violation = error_details_pb2.QuotaFailure.Violation(subject=subject, description=shortened_sentence(description))
    return error_details_pb2.QuotaFailure(violations=[violation])

from typing import Any

import grpc
import pytest
from aisandbox_api import errors
from aisandbox_api.status_codes import statuses
from aisandbox_crds.errors import FieldError
from aisandbox_model_store import DiskFull, InvalidRunId, OutsideRoot
from google.rpc import error_details_pb2, status_pb2


class Aborted(grpc.aio.AbortError):
    pass


class Context:
    async def abort(self, code: grpc.StatusCode, details: str, metadata: Any) -> None:
        self.code, self.details, self.metadata = code, details, dict(metadata or ())
        raise Aborted


async def answered(error: Exception) -> tuple[str, str, list[Any]]:
    """The status a call ends with when ``error`` leaves it: code, message, the details' types."""
    context = Context()
    with pytest.raises(Aborted):
        async with statuses(context):  # type: ignore[arg-type]
            raise error
    status = status_pb2.Status.FromString(context.metadata.get("grpc-status-details-bin", b""))
    return context.code.name, context.details, list(status.details)


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (errors.InvalidRequest([FieldError("seed", "too large")]), "INVALID_ARGUMENT", "seed: too large"),
        (OutsideRoot("../x", "must not contain '..'"), "INVALID_ARGUMENT", "model_output_path"),
        (errors.RunUnknown("r"), "NOT_FOUND", "'r'"),
        (InvalidRunId("R", "must be"), "NOT_FOUND", "'R'"),
        (errors.RequestIdTaken("q", "r"), "ALREADY_EXISTS", "'r'"),
        (errors.RunDone("r", "Failed", "cancelled"), "FAILED_PRECONDITION", "Failed"),
        (errors.Unmet("Kind", "subject", "do this"), "FAILED_PRECONDITION", "do this"),
        (errors.LimitReached("MAX_PENDING_RUNS", "100 runs wait"), "RESOURCE_EXHAUSTED", "100 runs wait"),
        (errors.NotAuthenticated("no token"), "UNAUTHENTICATED", "no token"),
        (errors.NotPermitted("another run"), "PERMISSION_DENIED", "another run"),
        (errors.AttemptOver("over"), "FAILED_PRECONDITION", "over"),
        (errors.ServiceStopping("stopping"), "UNAVAILABLE", "stopping"),
    ],
)
async def test_error_has_its_status(error: Exception, code: str, says: str) -> None:
    found, message, _ = await answered(error)
    assert found == code
    assert says in message


async def test_full_disk_is_a_limit_and_names_the_folder(tmp_path: Any) -> None:
    code, message, _ = await answered(DiskFull(tmp_path))
    assert code == "RESOURCE_EXHAUSTED"
    assert str(tmp_path) in message


async def test_fault_is_internal_and_keeps_its_text_to_the_log() -> None:
    code, message, _ = await answered(ValueError("token=secret"))
    assert code == "INTERNAL"
    assert "secret" not in message


async def test_bad_request_details_name_every_field() -> None:
    broken = [FieldError("seed", "too large"), FieldError("total_timesteps", "too small")]
    _, _, details = await answered(errors.InvalidRequest(broken))
    message = error_details_pb2.BadRequest()
    assert details[0].Unpack(message)
    assert [(v.field, v.description) for v in message.field_violations] == [
        ("seed", "too large"),
        ("total_timesteps", "too small"),
    ]


async def test_status_stays_within_what_peers_take_as_headers() -> None:
    broken = [FieldError(f"hyperparameters.key{i}", "unknown" * 20) for i in range(500)]
    _, message, details = await answered(errors.InvalidRequest(broken))
    assert len(message) + sum(detail.ByteSize() for detail in details) < 8192

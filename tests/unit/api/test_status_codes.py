from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from aisandbox_api import errors
from aisandbox_api.status_codes import abort_on_error
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
        async with abort_on_error(context):  # type: ignore[arg-type]
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
        (errors.RunDone("r", "Failed", "cancelled"), "FAILED_PRECONDITION", "(Failed) and cannot be cancelled"),
        (errors.RunDone("r", "Failed", "resumed"), "FAILED_PRECONDITION", "cannot be resumed; start a new one"),
        (errors.FailedPrecondition("Kind", "subject", "do this"), "FAILED_PRECONDITION", "do this"),
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


def test_only_the_refusal_of_a_resume_advises_a_new_run() -> None:
    assert "start a new one" not in str(errors.RunDone("r", "Failed", "cancelled"))
    assert "start a new one" not in str(errors.RunDone("r", "Failed", "suspended"))


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


@asynccontextmanager
async def refusing(error: Exception) -> AsyncIterator[Any]:
    """A call that ends with the status of ``error``."""

    async def refuse(request: bytes, context: Any) -> bytes:
        async with abort_on_error(context):
            raise error

    server = grpc.aio.server()
    handler: Any = grpc.unary_unary_rpc_method_handler(refuse)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("s.S", {"Call": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel.unary_unary("/s.S/Call")
    finally:
        await server.stop(0)


LONG = "is not a hyperparameter of PPO: " + "one of these, " * 40
WIDE = "\N{SNOWMAN}\N{GRINNING FACE}" * 400


@pytest.mark.parametrize(
    ("broken", "named"),
    [
        ([FieldError(f"hyperparameters.key_{i}", LONG) for i in range(12)], 12),
        ([FieldError(f"hyperparameters.key_{i}", WIDE) for i in range(3)], 3),
        ([FieldError("hyperparameters." + "k" * 50_000, WIDE + "%" * 50_000)], 1),
        ([FieldError(WIDE, "%" * 20_000)] * 1000, 1),
        ([FieldError(f"hyperparameters.key_{i}", LONG) for i in range(500)], 10),
    ],
    ids=["twelve", "wide", "one", "thousand", "many"],
)
async def test_refusal_reaches_a_client_however_much_is_wrong(broken: list[FieldError], named: int) -> None:
    async with refusing(errors.InvalidRequest(broken)) as call:
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await call(b"", timeout=10)
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    found = status_pb2.Status.FromString(dict(refusal.value.trailing_metadata() or ())["grpc-status-details-bin"])
    assert found.message == refusal.value.details()
    message = error_details_pb2.BadRequest()
    assert found.details[0].Unpack(message)
    assert len(message.field_violations) >= named
    for violation, error in zip(message.field_violations, broken, strict=False):
        assert violation.field[:90] == error.field[:90]
        assert violation.description[:20] == error.rule[:20]
    left_out = len(broken) - len(message.field_violations)
    assert (f"and {left_out} more)" in found.message) == bool(left_out)


@pytest.mark.parametrize(
    "error",
    [
        errors.FailedPrecondition("Kind", WIDE * 10, WIDE * 10),
        errors.RunUnknown(WIDE * 10),
        errors.LimitReached("LIMIT", "%" * 50_000),
        OutsideRoot(WIDE, "must not contain '..'"),
    ],
    ids=["unmet", "unknown", "limit", "outside"],
)
async def test_long_sentence_reaches_a_client(error: Exception) -> None:
    expected, _, _ = await answered(error)
    async with refusing(error) as call:
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await call(b"", timeout=10)
    assert refusal.value.code().name == expected
    assert "metadata" not in (refusal.value.details() or "")

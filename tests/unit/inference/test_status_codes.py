from __future__ import annotations

from concurrent.futures import CancelledError
from pathlib import Path

import pytest
from aisandbox_inference.errors import InvalidField, ModelTooLarge, Stopping, TooManyObservations, UnusableModel
from aisandbox_inference.status_codes import status_of
from aisandbox_model_store import Damaged, InvalidRunId, InvalidSelector, ModelNotFound, RunNotFound
from aisandbox_wire.errors import InvalidTensor
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (ModelNotFound("r1", "best", "no model has been rated yet"), code_pb2.FAILED_PRECONDITION, "no model has been"),
        (TooManyObservations(9, 8), code_pb2.RESOURCE_EXHAUSTED, "MAX_BATCH_OBSERVATIONS"),
        (ModelTooLarge("sha256:0", 9, 8), code_pb2.RESOURCE_EXHAUSTED, "MODEL_CACHE_BYTES"),
        (Damaged(Path("x"), "cut"), code_pb2.DATA_LOSS, "cut"),
        (UnusableModel("sha256:0", "why"), code_pb2.DATA_LOSS, "why"),
        (Stopping(), code_pb2.UNAVAILABLE, "stopping"),
        (OSError(5, "Input/output error"), code_pb2.UNAVAILABLE, "Input/output error"),
        (CancelledError(), code_pb2.CANCELLED, "cancelled the call"),
        (DecodeError("x"), code_pb2.INVALID_ARGUMENT, "not a message of this method"),
        (ZeroDivisionError("secret"), code_pb2.INTERNAL, "internal error"),
    ],
)
def test_error_has_its_status(error: Exception, code: int, text: str) -> None:
    status = status_of(error)
    assert status.code == code
    assert text in status.message
    assert "secret" not in status.message
    assert not status.details


@pytest.mark.parametrize(
    ("error", "field"),
    [
        (InvalidField("observation", "rule"), "observation"),
        (InvalidTensor("observations[1]", "rule"), "observations[1]"),
        (InvalidSelector("x", "rule"), "model"),
    ],
)
def test_bad_argument_names_field_and_rule_also_in_details(error: Exception, field: str) -> None:
    status = status_of(error)
    assert status.code == code_pb2.INVALID_ARGUMENT
    assert status.message.startswith(f"{field}: rule")
    request = error_details_pb2.BadRequest()
    assert status.details[0].Unpack(request)
    assert [violation.field for violation in request.field_violations] == [field]
    assert request.field_violations[0].description.startswith("rule")


@pytest.mark.parametrize("error", [RunNotFound("../x"), InvalidRunId("../x", "must be a label")])
def test_unknown_run_is_not_found_and_named_in_the_details(error: Exception) -> None:
    status = status_of(error)
    assert (status.code, status.message) == (code_pb2.NOT_FOUND, "run '../x' does not exist")
    resource = error_details_pb2.ResourceInfo()
    assert status.details[0].Unpack(resource)
    assert (resource.resource_type, resource.resource_name) == ("TrainingRun", "../x")

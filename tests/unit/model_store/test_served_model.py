"""Models that exist have these names and this form: a change of one of them is a change of the contract on disk."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aisandbox_model_store import served_model
from aisandbox_model_store.served_model import GoldenExamples, StoredTensor, observation_input

EXAMPLES = GoldenExamples(
    observations=(StoredTensor("float32", (1, 2), bytes(8)), StoredTensor("uint8", (1,), b"\x07")),
    noise=StoredTensor("float32", (1, 1), bytes(4)),
    actions=StoredTensor("int64", (1,), b"\x01" + bytes(7)),
)
DOCUMENT: dict[str, Any] = {
    "observations": [
        {"dtype": "float32", "shape": [1, 2], "data": "AAAAAAAAAAA="},
        {"dtype": "uint8", "shape": [1], "data": "Bw=="},
    ],
    "noise": {"dtype": "float32", "shape": [1, 1], "data": "AAAAAA=="},
    "actions": {"dtype": "int64", "shape": [1], "data": "AQAAAAAAAAA="},
}


def test_names_are_those_of_models_that_exist() -> None:
    assert served_model.POLICY_FILE == "policy.onnx"
    assert served_model.METADATA_FILE == "metadata.json"
    assert served_model.GOLDEN_FILE == "golden.json"
    assert served_model.NOISE_INPUT == "noise"
    assert served_model.ACTION_OUTPUT == "action"
    assert observation_input("") == "observation"
    assert observation_input("camera") == "observation.camera"


def test_golden_examples_are_written_in_the_form_of_models_that_exist() -> None:
    assert json.loads(EXAMPLES.to_bytes()) == DOCUMENT


def test_golden_examples_are_read_as_they_were_written() -> None:
    assert GoldenExamples.from_bytes(json.dumps(DOCUMENT).encode()) == EXAMPLES


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        json.dumps({**DOCUMENT, "actions": None}).encode(),
        json.dumps({**DOCUMENT, "actions": {**DOCUMENT["actions"], "data": "?"}}).encode(),
        json.dumps({**DOCUMENT, "actions": {**DOCUMENT["actions"], "shape": [2]}}).encode(),
        json.dumps({**DOCUMENT, "actions": {**DOCUMENT["actions"], "shape": []}}).encode(),
        json.dumps({**DOCUMENT, "observations": [{**DOCUMENT["noise"], "shape": ["x"]}]}).encode(),
        b"[" * 100_000,
    ],
)
def test_golden_examples_of_another_form_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 -- json's and base64's own errors are ValueErrors too
        GoldenExamples.from_bytes(data)

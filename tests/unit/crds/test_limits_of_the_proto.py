"""The limits in the comments of policy_trainer.proto are those that are checked."""

from __future__ import annotations

from pathlib import Path

import pytest
from aisandbox_crds.addresses import MAX_ADDRESSES, address_problem
from aisandbox_crds.errors import InvalidRun
from aisandbox_crds.spec import MAX_ADDRESS_LENGTH, MAX_HYPERPARAMETERS, MAX_VALUE_LENGTH
from aisandbox_crds.validation import MAX_NAME_LENGTH, validate_names

PROTO = Path(__file__).parents[3] / "proto/aisandbox/v1/policy_trainer.proto"
TEXT = " ".join(line.strip().removeprefix("//").strip() for line in PROTO.read_text().splitlines())


@pytest.mark.parametrize(
    "sentence",
    [
        f"A name that groups runs: 1 to {MAX_NAME_LENGTH} printable characters.",
        f"1 to {MAX_NAME_LENGTH} printable characters, chosen by the client.",
        f"at most {MAX_HYPERPARAMETERS}, each of at most {MAX_VALUE_LENGTH:,} characters",
        f"At most {MAX_ADDRESS_LENGTH:,} characters and {MAX_ADDRESSES:,} addresses.",
    ],
)
def test_comment_says_the_limit_that_is_checked(sentence: str) -> None:
    assert sentence in TEXT


@pytest.mark.parametrize("field", ["experiment_id", "request_id"])
def test_text_over_its_limit_is_refused_with_the_limit_and_its_length(field: str) -> None:
    names = {"experiment_id": "e", "request_id": "r", field: "x" * (MAX_NAME_LENGTH + 1)}
    with pytest.raises(InvalidRun) as refused:
        validate_names(**names)
    (error,) = refused.value.errors
    assert error.field == field
    assert "1 to 128 printable characters, got 129" in error.rule
    validate_names(**{**names, field: "x" * MAX_NAME_LENGTH})


def test_addresses_over_their_limits_are_refused_with_them() -> None:
    assert f"at most {MAX_ADDRESS_LENGTH}" in address_problem("x" * (MAX_ADDRESS_LENGTH + 1))
    assert f"at most {MAX_ADDRESSES}" in address_problem(",".join(["a:1"] * (MAX_ADDRESSES + 1)))

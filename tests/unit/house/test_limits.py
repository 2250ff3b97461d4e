"""docs/limits.md has the limits that are checked."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from aisandbox_api import http_api, port_options, requests, status_size, training_servicer
from aisandbox_api.settings import Settings as ApiSettings
from aisandbox_crds import (
    MAX_NAME_LENGTH,
    MAX_SEED,
    MAX_TIMESTEPS,
    addresses,
    codec,
    lesson_rules,
    lessons,
    progress,
    spec,
    validation,
)
from aisandbox_environment import RelayLimits, calls, parameters
from aisandbox_environment.relay import registrations
from aisandbox_inference import policy_service
from aisandbox_inference.settings import Settings as InferenceSettings
from aisandbox_wire import NO_BOUND, bounded_messages, spaces, tensors

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs/limits.md").read_text(encoding="utf-8")
ROWS = dict(re.findall(r"^\| (.+?) \| (.+?) \|", TEXT, re.M))
POOLS = RelayLimits()
INFERENCE = InferenceSettings()


def binary(size: int) -> str:
    """As 64 KiB or 3 MiB."""
    unit, name = (1024**2, "MiB") if size >= 1024**2 else (1024, "KiB")
    assert size % unit == 0
    return f"{size // unit} {name}"


@pytest.mark.parametrize(
    ("row", "value"),
    [
        ("one request to the service", binary(port_options.LARGEST_MESSAGE)),
        ("one request to the inference-server", f"{binary(INFERENCE.max_message_bytes)} (`MAX_MESSAGE_BYTES`)"),
        ("a `TrainingRequest` as a message", binary(requests.LARGEST_START)),
        ("a run's spec as JSON, `options` and `kwargs` included", binary(validation.MAX_SPEC_BYTES)),
        (
            "`page_size` of `ListTrainingRuns`",
            f"{requests.LARGEST_PAGE_SIZE:,} (0: {requests.DEFAULT_PAGE_SIZE})",
        ),
        ("what of a message is not elements of tensors", binary(bounded_messages.LARGEST_STRUCTURE)),
        ("fields of a larger message", f"{bounded_messages.MOST_FIELDS:,}"),
        ("a simulator's `Describe`, and its first reply", binary(calls.LARGEST_SPEC)),
        ("one page of `ListTrainingRuns`", binary(training_servicer.LARGEST_PAGE_BYTES)),
        ("observations of one `ActBatch`", f"{INFERENCE.max_batch_observations:,} (`MAX_BATCH_OBSERVATIONS`)"),
        ("one part of `GetModel`", binary(policy_service._PART_BYTES)),
        ("message and details of an error", binary(status_size.LIMIT)),
        ("runs that are suspended, at a start", f"{ApiSettings().max_suspended_runs} (`MAX_SUSPENDED_RUNS`)"),
        ("runs that wait for a trainer", f"{ApiSettings().max_pending_runs} (`MAX_PENDING_RUNS`)"),
        ("`experiment_id`, `request_id`", f"1 to {validation.MAX_NAME_LENGTH} printable characters"),
        ("`run_id` (the service makes it)", f"{MAX_NAME_LENGTH} characters: a label of DNS"),
        ("`total_timesteps`", f"10^{len(str(MAX_TIMESTEPS)) - 1}"),
        ("`seed`", f"2^{MAX_SEED.bit_length()} - 1"),
        ("`hyperparameters`", f"{spec.MAX_HYPERPARAMETERS}, each of {spec.MAX_VALUE_LENGTH:,} characters"),
        (
            "`environment.grpc.address`",
            f"{spec.MAX_ADDRESS_LENGTH:,} characters, {addresses.MAX_ADDRESSES:,} addresses",
        ),
        ("`environment.grpc.environments`, `environment.pool.environments`, `n_envs`", f"{spec.MAX_ENVIRONMENTS:,}"),
        (
            "`environment.grpc.options`, `environment.pool.options`, `environment.gymnasium.kwargs`",
            f"nested {codec.MAX_DEPTH} deep",
        ),
        ("`lessons`", f"{lessons.MAX_LESSONS}, each with {lessons.MAX_PARAMETERS} parameters"),
        ("`model_output_path`", f"{spec.MAX_PATH_LENGTH:,} characters"),
        ("one text of a status (a warning, a message)", f"{progress.MAX_TEXT:,} characters; longer ones are cut"),
        ("numbers in one value of a space, over all its leaves", f"2^{spaces.MOST_SPACE_ELEMENTS.bit_length() - 1}"),
        ("entries of a Dict", f"{spaces.MOST_LEAVES:,}"),
        ("dimensions of a Box, and of a tensor", f"{tensors.MOST_DIMENSIONS}"),
        (
            "a bound of a Box of actions",
            f"a magnitude under 10^{len(str(int(NO_BOUND))) - 1}; from there on it counts as none",
        ),
        (
            "simulators attached to one process of the service",
            f"{ApiSettings().max_simulators:,} (`MAX_SIMULATORS`)",
        ),
        ("registrations from one host", f"{POOLS.burst:,} at once, {POOLS.per_second:g} a second"),
        ("a registration", binary(registrations.LARGEST_REGISTRATION)),
        ("environments of one place", f"{registrations.MOST_ENVIRONMENTS:,}"),
        ("seconds until a stream registers", f"{POOLS.register_seconds:g}"),
        ("seconds until a simulator ends its side of a session", f"{POOLS.end_seconds:g}"),
        ("an `act` in JSON", binary(http_api.LARGEST_BODY)),
    ],
)  # fmt: skip
def test_limit_in_the_table_is_the_one_that_is_checked(row: str, value: str) -> None:
    assert ROWS[row] == value


def test_comments_of_the_api_name_the_table() -> None:
    assert "docs/limits.md" in (ROOT / "proto/aisandbox/v1/policy_trainer.proto").read_text(encoding="utf-8")


def test_limits_of_parameters_are_those_of_lessons() -> None:
    assert parameters.MOST_PARAMETERS == lessons.MAX_PARAMETERS
    assert parameters.LONGEST_TEXT == lesson_rules.LONGEST_TEXT
    assert parameters.MOST_WHOLE == lesson_rules.MOST_WHOLE

from __future__ import annotations

import json
import math
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from aisandbox_crds.codec import (
    run_from_json,
    run_to_json,
    spec_from_json,
    spec_to_json,
    status_from_json,
    status_to_json,
)
from aisandbox_crds.conditions import Condition, ConditionStatus, ConditionType
from aisandbox_crds.errors import InvalidRun
from aisandbox_crds.spec import (
    Algorithm,
    Evaluation,
    FakeEnvironment,
    GrpcEnvironment,
    GymnasiumEnvironment,
    TrainingRunSpec,
)
from aisandbox_crds.status import Phase, Progress, TrainingRunStatus
from aisandbox_crds.status_values import Artifact, Failure
from aisandbox_crds.trainingrun import TrainingRun
from hypothesis import given, settings
from hypothesis import strategies as st

COUNTS = st.integers(min_value=0, max_value=10**12)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | NUMBERS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
OBJECTS = st.dictionaries(st.text(max_size=5), JSON, max_size=3)
TEXTS = st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3)
ENVIRONMENTS = st.one_of(
    st.builds(GymnasiumEnvironment, st.text(), OBJECTS),
    st.builds(GrpcEnvironment, st.text(), COUNTS, OBJECTS),
    st.builds(FakeEnvironment),
)
SPECS = st.builds(
    TrainingRunSpec,
    algorithm=st.sampled_from(Algorithm),
    total_timesteps=st.integers(),
    environment=ENVIRONMENTS,
    seed=st.none() | st.integers(),
    hyperparameters=TEXTS,
    model_output_path=st.text(),
    checkpoint_every_timesteps=COUNTS,
    evaluation=st.none() | st.builds(Evaluation, COUNTS, COUNTS, st.booleans()),
    suspend=st.booleans(),
    cancel=st.booleans(),
    backoff_limit=COUNTS,
    active_deadline_seconds=st.none() | COUNTS,
    ttl_seconds_after_finished=st.none() | COUNTS,
    resources=OBJECTS,
    node_selector=TEXTS,
    tolerations=st.lists(OBJECTS, max_size=3).map(tuple),
    priority_class_name=st.text(max_size=5),
    labels=TEXTS,
)
TIMES = st.none() | st.just("2025-01-01T00:00:00Z")
ARTIFACTS = st.none() | st.builds(Artifact, st.text(), COUNTS, st.text(), st.none() | NUMBERS, TIMES)
CONDITIONS = st.builds(
    Condition,
    st.sampled_from(ConditionType),
    st.sampled_from(ConditionStatus),
    reason=st.text(),
    message=st.text(),
    last_transition_time=st.text(),
    observed_generation=COUNTS,
)
STATUSES = st.builds(
    TrainingRunStatus,
    phase=st.sampled_from(Phase),
    start_time=TIMES,
    progress=st.builds(Progress, COUNTS, COUNTS, NUMBERS, NUMBERS, st.none() | NUMBERS, warning=st.text()),
    latest_checkpoint=ARTIFACTS,
    best_model=ARTIFACTS,
    attempt=COUNTS,
    suspensions=COUNTS,
    restarts=COUNTS,
    failure=st.none() | st.builds(Failure, st.text(), st.text()),
    observed_generation=COUNTS,
    conditions=st.lists(CONDITIONS, max_size=3).map(tuple),
)
RUNS = st.builds(
    TrainingRun,
    name=st.text(),
    spec=SPECS,
    status=STATUSES,
    uid=st.text(),
    creation_time=st.text(),
    annotations=TEXTS,
    generation=COUNTS,
    resource_version=st.text(),
    deletion_time=st.text(),
)


@given(RUNS)
@settings(deadline=None)  # a run has many fields, and the machine may be busy
def test_a_run_is_itself_after_a_round_trip_through_text(run: TrainingRun) -> None:
    assert run_from_json(json.loads(json.dumps(run_to_json(run)))) == run


@given(STATUSES)
def test_a_status_is_itself_after_a_round_trip_through_text(status: TrainingRunStatus) -> None:
    assert status_from_json(json.loads(json.dumps(status_to_json(status)))) == status


def test_spec_in_json_is_camel_case_without_defaults() -> None:
    spec = TrainingRunSpec(
        Algorithm.DQN,
        1000,
        GrpcEnvironment("a:1", options={"map": "x"}),
        evaluation=Evaluation(every_timesteps=10),
        checkpoint_every_timesteps=7,
    )
    assert spec_to_json(spec) == {
        "algorithm": "DQN",
        "totalTimesteps": 1000,
        "environment": {"grpc": {"address": "a:1", "options": {"map": "x"}}},
        "checkpointEveryTimesteps": 7,
        "evaluation": {"everyTimesteps": 10},
    }


def test_an_evaluation_of_defaults_is_not_lost() -> None:
    spec = TrainingRunSpec(Algorithm.PPO, 1, evaluation=Evaluation())
    assert spec_from_json(spec_to_json(spec)).evaluation == Evaluation()


def test_an_absent_environment_is_the_fake_one() -> None:
    assert spec_from_json({"algorithm": "PPO", "totalTimesteps": 1}).environment == FakeEnvironment()


def test_the_phase_is_always_written() -> None:
    assert status_to_json(TrainingRunStatus()) == {"phase": "Pending"}


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_without_a_json_form_are_left_out_of_a_status(number: float) -> None:
    status = TrainingRunStatus(progress=Progress(timesteps=5, fps=number, episode_reward_mean=number))
    assert json.dumps(status_to_json(status), allow_nan=False) == '{"phase": "Pending", "progress": {"timesteps": 5}}'


def test_a_record_does_not_share_what_the_caller_may_change() -> None:
    options = {"list": [1]}
    written = spec_to_json(TrainingRunSpec(Algorithm.PPO, 1, GrpcEnvironment("a:1", options=options)))
    read = spec_from_json(written)
    options["list"].append(2)
    written["environment"]["grpc"]["options"]["list"].append(3)
    assert isinstance(read.environment, GrpcEnvironment)
    assert read.environment.options == {"list": [1]}


VALID: dict[str, Any] = {"algorithm": "PPO", "totalTimesteps": 1000}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"algorithm": "DDPG"}, "spec.algorithm"),
        ({"algorithm": ["PPO"]}, "spec.algorithm"),
        ({"algorithm": None}, "spec.algorithm"),
        ({"totalTimesteps": "1000"}, "spec.totalTimesteps"),
        ({"totalTimesteps": True}, "spec.totalTimesteps"),
        ({"totalTimesteps": 1.0}, "spec.totalTimesteps"),
        ({"suspend": 1}, "spec.suspend"),
        ({"seed": "x" * 10_000}, "spec.seed"),
        ({"seed": 0.5}, "spec.seed"),
        ({"total_timesteps": 5}, "spec.total_timesteps"),
        ({"hyperparameters": {"gamma": 0.9}}, "spec.hyperparameters.gamma"),
        ({"hyperparameters": []}, "spec.hyperparameters"),
        ({"environment": {}}, "spec.environment"),
        ({"environment": {"grpc": {"address": "a:1"}, "fake": {}}}, "spec.environment"),
        ({"environment": {"unity": {}}}, "spec.environment"),
        ({"environment": "fake"}, "spec.environment"),
        ({"environment": {"grpc": {}}}, "spec.environment.grpc.address"),
        ({"environment": {"grpc": {"address": 1}}}, "spec.environment.grpc.address"),
        ({"environment": {"grpc": {"address": "a:1", "port": 1}}}, "spec.environment.grpc.port"),
        ({"environment": {"grpc": {"address": "a:1", "options": {"a": math.nan}}}}, "spec.environment.grpc.options"),
        ({"environment": {"gymnasium": {"id": "A", "kwargs": {1: 2}}}}, "spec.environment.gymnasium.kwargs"),
        ({"environment": {"fake": {"a": 1}}}, "spec.environment.fake.a"),
        ({"evaluation": {"episodes": "ten"}}, "spec.evaluation.episodes"),
        ({"evaluation": True}, "spec.evaluation"),
    ],
)
def test_a_spec_names_what_is_wrong(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRun) as caught:
        spec_from_json(VALID | change)
    assert field in [error.field for error in caught.value.errors]
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("data", [None, [], "spec", 1, {1: 2}])
def test_what_is_not_an_object_is_refused(data: object) -> None:
    for read in (spec_from_json, status_from_json, run_from_json):
        with pytest.raises(InvalidRun):
            read(data)


@given(JSON | OBJECTS | st.fixed_dictionaries({"algorithm": JSON, "totalTimesteps": JSON, "environment": JSON}))
def test_reading_raises_nothing_but_invalid_run(data: object) -> None:
    for read in (spec_from_json, status_from_json):
        with suppress(InvalidRun):
            assert read(data) is not None


def test_a_deeply_nested_object_is_refused() -> None:
    nested: Any = {}
    for _ in range(100_000):
        nested = {"a": nested}
    with pytest.raises(InvalidRun, match="nested"):
        spec_from_json(VALID | {"environment": {"gymnasium": {"id": "A", "kwargs": nested}}})
    with pytest.raises(InvalidRun):
        spec_from_json(VALID | {"seed": nested})
    while nested:  # Freed from the outside in: CPython would recurse.
        nested = nested["a"]


def test_a_status_of_a_newer_writer_is_read() -> None:
    running = {"type": "Running", "status": "True", "reason": "TrainerRuns"}
    data = {
        "phase": "Running",
        "progress": {"timesteps": 5, "new": 1},
        "replicas": [{"name": "a"}],
        "conditions": [{**running, "since": 1}, {**running, "type": "Preempted", "status": "Perhaps"}],
    }
    assert status_from_json(data) == TrainingRunStatus(
        Phase.RUNNING,
        progress=Progress(timesteps=5),
        conditions=(Condition(ConditionType.RUNNING, ConditionStatus.TRUE, "TrainerRuns"),),
    )


@pytest.mark.parametrize(
    ("condition", "field"),
    [
        ("Running", "status.conditions[0]"),
        ({"status": "True", "reason": "R"}, "status.conditions[0].type"),
        ({"type": 5, "status": "True", "reason": "R"}, "status.conditions[0].type"),
        ({"type": "Running", "status": True, "reason": "R"}, "status.conditions[0].status"),
        ({"type": "Running", "status": "True"}, "status.conditions[0].reason"),
    ],
)
def test_a_condition_that_no_writer_can_mean_is_refused(condition: object, field: str) -> None:
    with pytest.raises(InvalidRun) as caught:
        status_from_json({"phase": "Running", "conditions": [condition]})
    assert field in [error.field for error in caught.value.errors]


def test_a_run_is_read_as_kubernetes_writes_it() -> None:
    run = TrainingRun("r", TrainingRunSpec(Algorithm.PPO, 1), uid="u")
    data = run_to_json(run)
    data["metadata"] |= {"generation": 2, "resourceVersion": "1", "managedFields": []}
    del data["status"]
    assert run_from_json(data) == replace(run, generation=2, resource_version="1")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"kind": "Job"}, "kind"),
        ({"apiVersion": "v1"}, "apiVersion"),
        ({"metadata": {}}, "metadata.name"),
        ({"metadata": {"name": "r", "annotations": {"a": 1}}}, "metadata.annotations.a"),
        ({"spec": None}, "spec"),
        ({"status": {"phase": "Gone"}}, "status.phase"),
        ({"status": {"latestModel": {"path": "x"}}}, "status.latestModel.digest"),
    ],
)
def test_a_run_names_what_is_wrong(change: dict[str, Any], field: str) -> None:
    data = run_to_json(TrainingRun("r", TrainingRunSpec(Algorithm.PPO, 1)))
    with pytest.raises(InvalidRun) as caught:
        run_from_json(data | change)
    assert field in [error.field for error in caught.value.errors]


def test_an_unknown_field_of_the_spec_of_a_run_is_refused() -> None:
    run = run_to_json(TrainingRun("r", replace(TrainingRunSpec(Algorithm.PPO, 1))))
    run["spec"]["totalTimestep"] = 5
    with pytest.raises(InvalidRun, match=r"spec\.totalTimestep: unknown field"):
        run_from_json(run)

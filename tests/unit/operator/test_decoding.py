import copy
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from aisandbox_crds.status import Phase
from aisandbox_crds.status_values import Failure
from aisandbox_operator.decoding import read_job, read_run
from aisandbox_operator.job_manifest import job_manifest
from aisandbox_operator.observed_objects import RelatedObjects
from aisandbox_operator.plan import plan
from aisandbox_operator.pod_decoding import read_pod, read_pod_refusal, read_termination_message
from hypothesis import given, settings
from hypothesis import strategies as st
from operator_objects import NOW, RUN_UID, SETTINGS, spec

RUN: dict[str, Any] = {
    "apiVersion": "aisandbox.dev/v1alpha1",
    "kind": "TrainingRun",
    "metadata": {"name": "walk", "uid": RUN_UID, "generation": 3, "resourceVersion": "17"},
    "spec": {"algorithm": "PPO", "totalTimesteps": 100},
    "status": {"phase": "Running", "attempt": 2, "progress": {"timesteps": 5, "attempt": 2}},
}
POD: dict[str, Any] = {
    "metadata": {
        "name": "walk-x",
        "uid": "p",
        "creationTimestamp": "2026-03-01T11:00:00Z",
        "ownerReferences": [{"kind": "Job", "uid": "j", "controller": True}],
    },
    "spec": job_manifest("walk", RUN_UID, spec(), SETTINGS, 0, suspended=False)["spec"]["template"]["spec"],
    "status": {
        "phase": "Failed",
        "conditions": [{"type": "DisruptionTarget", "status": "True"}, {"type": "PodScheduled", "status": "True"}],
        "containerStatuses": [
            {"name": "sidecar", "state": {"running": {}}},
            {
                "name": "trainer",
                "state": {
                    "terminated": {
                        "exitCode": 75,
                        "reason": "Error",
                        "startedAt": "2026-03-01T11:00:01Z",
                        "finishedAt": "2026-03-01T11:00:09Z",
                        "message": '{"attempt":2,"exitCode":75,"timesteps":40}',
                    }
                },
            },
        ],
    },
}
JOB: dict[str, Any] = {
    "metadata": {
        "name": "walk",
        "uid": "j",
        "annotations": {"aisandbox.dev/failures-before": "2"},
        "ownerReferences": [{"kind": "TrainingRun", "uid": RUN_UID, "controller": True}],
    },
    "spec": {"suspend": False},
    "status": {
        "failed": 1,
        "conditions": [
            {"type": "FailureTarget", "status": "True"},
            {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "m"},
        ],
    },
}


def test_run_is_read_with_its_status() -> None:
    run = read_run(RUN)
    assert (run.name, run.uid, run.generation, run.resource_version) == ("walk", RUN_UID, 3, "17")
    assert run.status.phase is Phase.RUNNING
    assert run.problem == ""


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"totalTimesteps": 0}, "spec.totalTimesteps: must be"),
        ({"hyperparameters": {"gamma": "7"}}, "spec.hyperparameters.gamma: must be"),
        ({"environment": {"grpc": {"address": "nowhere"}}}, "spec.environment.grpc.address: must be host:port"),
        ({"modelOutputPath": "../x"}, "spec.modelOutputPath: "),
        ({"totalTimesteps": 5, "stopWhen": {"episodeRewardMean": 1}}, "spec.stopWhen.episodeRewardMean: is never"),
        ({"lessons": [{"name": "a", "parameters": {"wind_speed": []}}]}, "spec.lessons[0].parameters.wind_speed: must"),
        ({"algorithm": "DDPG"}, "spec.algorithm: must be one of"),
        ({"environment": {"grpc": {}, "fake": {}}}, "spec.environment: must have exactly one of"),
    ],
)
def test_spec_that_cannot_be_trained_is_reported_by_its_field(change: dict[str, Any], problem: str) -> None:
    assert read_run({**RUN, "spec": {**RUN["spec"], **change}}).problem.startswith(problem)


@pytest.mark.parametrize(
    ("change", "may_be_new"),
    [
        ({"hyperparameters": {"gamma": "7"}}, False),
        ({"resources": {"limits": {"memory": "much"}}}, True),
        ({"labels": {"a b": "c"}, "modelOutputPath": "../x"}, True),
    ],
)
def test_problem_may_be_new_where_the_field_can_be_changed(change: dict[str, Any], may_be_new: bool) -> None:
    run = read_run({**RUN, "spec": {**RUN["spec"], **change}})
    assert run.problem
    assert run.problem_may_be_new == may_be_new


def test_name_that_cannot_be_a_folder_is_a_problem() -> None:
    assert "metadata.name" in read_run({**RUN, "metadata": {"name": "a.b"}}).problem


def test_fields_of_a_status_that_cannot_be_read_are_left_out() -> None:
    run = read_run({**RUN, "status": {"phase": "Succeeded", "attempt": "two", "conditions": 7}})
    assert run.status.phase is Phase.SUCCEEDED
    assert run.status.attempt == 0


def test_job_is_read() -> None:
    job = read_job(JOB)
    assert (job.owner_kind, job.owner_uid) == ("TrainingRun", RUN_UID)
    assert (job.failed, job.failures_before, job.end, job.end_reason) == (1, 2, "Failed", "BackoffLimitExceeded")
    assert job.is_finishing
    assert job.has_settled


def test_job_has_settled_when_its_condition_agrees_with_its_spec() -> None:
    suspended = {"type": "Suspended", "status": "True"}
    asked = {**JOB, "spec": {"suspend": True}, "status": {}}
    assert not read_job(asked).has_settled
    assert read_job({**asked, "status": {"conditions": [suspended]}}).has_settled
    assert not read_job({**JOB, "status": {"conditions": [suspended]}}).has_settled


def test_pod_is_read_with_its_trainer_only() -> None:
    pod = read_pod(POD)
    assert (pod.job_uid, pod.files_uid, pod.exit_code) == ("j", RUN_UID, 75)
    assert pod.was_disrupted
    assert not pod.is_running
    assert pod.termination_message is not None
    assert (pod.termination_message.attempt, pod.termination_message.timesteps) == (2, 40)


def test_log_tail_is_read_where_there_is_no_termination_message() -> None:
    assert read_termination_message("Traceback\n  boom\n") == (None, "Traceback |   boom")
    assert len(read_termination_message("x" * 5000)[1]) == 1000


def test_failure_of_a_trainer_is_read_as_the_trainer_said_it() -> None:
    failure = {"reason": "CannotStartFrom", "message": "start_from.take: needs start_from.checkpoint"}
    message, _ = read_termination_message(
        json.dumps({"attempt": 1, "exitCode": 78, "timesteps": 0, "failure": failure})
    )
    assert message is not None
    assert message.failure == Failure(**failure)


def test_termination_message_that_the_schema_would_refuse_is_left_out() -> None:
    odd = {"attempt": 10**12, "exitCode": 0, "timesteps": 1}
    assert read_termination_message(json.dumps(odd)) == (None, "")
    artifact = {"path": "p", "timesteps": 1, "digest": "d", "time": "yesterday"}
    ending, _ = read_termination_message(
        json.dumps({"attempt": 1, "exitCode": 0, "timesteps": 1, "latestModel": artifact})
    )
    assert ending is not None
    assert ending.latest_model is not None
    assert ending.latest_model.time is None


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(deeper for key, child in children for deeper in paths(child, (*path, key)))]


def damaged(raw: dict[str, Any], data: st.DataObject) -> dict[str, Any]:
    """The object with one of its parts replaced by something that does not belong there."""
    rubbish = st.one_of(
        st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.just([]), st.just({}), st.just([3])
    )
    path = data.draw(st.sampled_from([path for path in paths(raw) if path]))
    result = copy.deepcopy(raw)
    place: Any = result
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = data.draw(rubbish)
    return result


@given(st.data())
@settings(max_examples=400, deadline=None)
def test_malformed_objects_are_read_and_planned_without_an_error(data: st.DataObject) -> None:
    run = read_run(damaged(RUN, data))
    observed = RelatedObjects(read_job(damaged(JOB, data)), (read_pod(damaged(POD, data)),))
    plan(run, observed, SETTINGS, NOW)


RUNS = {"name": "trainer", "ready": True, "state": {"running": {"startedAt": "2026-03-01T11:00:00Z"}}}
NOT_READY = {"type": "Ready", "status": "False", "lastTransitionTime": "2026-03-01T11:30:00Z"}


def lost(containers: list[dict[str, object]], ready: dict[str, str], **spec: object) -> datetime | None:
    status = {"phase": "Running", "conditions": [ready], "containerStatuses": containers}
    return read_pod({"metadata": {"name": "p"}, "spec": spec, "status": status}).lost_since


@pytest.mark.parametrize("status", ["False", "Unknown"])
def test_node_is_lost_where_a_pod_is_not_ready_and_its_containers_are(status: str) -> None:
    since = datetime(2026, 3, 1, 11, 30, tzinfo=UTC)
    assert lost([RUNS], {**NOT_READY, "status": status}) == since
    assert lost([RUNS, {**RUNS, "name": "logs"}], {**NOT_READY, "status": status}) == since


def test_node_is_lost_where_the_pod_says_so() -> None:
    status = {"phase": "Unknown", "reason": "NodeLost", "conditions": [NOT_READY]}
    assert read_pod({"metadata": {"name": "p"}, "status": status}).lost_since == datetime(
        2026, 3, 1, 11, 30, tzinfo=UTC
    )


def test_node_is_not_lost_where_a_kubelet_says_why_a_pod_is_not_ready() -> None:
    assert lost([RUNS], {**NOT_READY, "status": "True"}) is None
    assert lost([], NOT_READY) is None
    assert lost([RUNS, {**RUNS, "name": "logs", "ready": False}], NOT_READY) is None
    assert lost([{"name": "trainer", "ready": False, "state": {"terminated": {"exitCode": 0}}}], NOT_READY) is None
    assert lost([RUNS], NOT_READY, readinessGates=[{"conditionType": "example.com/gate"}]) is None


def test_other_containers_of_a_pod_are_those_that_run() -> None:
    ended = {"terminated": {"exitCode": 0}}
    containers = [{**RUNS, "name": "istio-proxy"}, {"name": "trainer", "state": ended}, {"name": "x", "state": ended}]
    pod = read_pod({"metadata": {"name": "p"}, "status": {"phase": "Running", "containerStatuses": containers}})
    assert (pod.sidecars, pod.exit_code) == (("istio-proxy",), 0)


def test_who_suspended_a_job_is_the_manager_that_wrote_last() -> None:
    suspend: dict[str, Any] = {"f:spec": {"f:suspend": {}}}
    managers = [
        {"manager": "aisandbox-operator", "time": "2026-03-01T11:00:00Z", "fieldsV1": suspend},
        {"manager": "budget", "time": "2026-03-01T12:00:00Z", "fieldsV1": suspend},
        {"manager": "other", "time": "2026-03-01T13:00:00Z", "fieldsV1": {"f:status": {}}},
    ]
    raw = {**JOB, "metadata": {**JOB["metadata"], "managedFields": managers}}
    assert read_job(raw | {"spec": {"suspend": True}}).suspended_by == "budget"
    assert read_job(raw).suspended_by == ""


def test_refusal_of_a_pod_is_the_newest_and_names_no_pod() -> None:
    old = {"eventTime": "2026-03-01T11:00:00Z", "note": "Error creating: old"}
    new = {
        "deprecatedLastTimestamp": "2026-03-01T12:00:00Z",
        "note": 'Error creating: pods "walk-x7fgh" is forbidden: exceeded quota: gpus',
    }
    assert read_pod_refusal([old, new]) == "the pod is forbidden: exceeded quota: gpus"
    again = {**old, "series": {"lastObservedTime": "2026-03-01T13:00:00.000000Z"}}
    assert read_pod_refusal([new, again]) == "old"
    assert read_pod_refusal([]) == ""


@pytest.mark.parametrize(("source", "problem"), [("other", ""), ("walk", "spec.startFrom.run: must be another run")])
def test_run_that_starts_from_itself_is_refused(source: str, problem: str) -> None:
    assert read_run({**RUN, "spec": {**RUN["spec"], "startFrom": {"run": source}}}).problem == problem

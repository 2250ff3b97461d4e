"""Runs, Jobs and pods as the operator sees them, with defaults, for tests of its decisions."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from aisandbox_crds.codec import status_from_json
from aisandbox_crds.conditions import Condition, ConditionType
from aisandbox_crds.spec import Algorithm, TrainingRunSpec
from aisandbox_crds.status import Phase, TrainingRunStatus
from aisandbox_crds.status_values import Failure
from aisandbox_crds.trainer_exit import TerminationMessage
from aisandbox_crds.trainingrun import QUEUE_LABEL
from aisandbox_operator.decision import CreateJob, DeleteJob, SuspendJob
from aisandbox_operator.job_manifest import wanted_labels
from aisandbox_operator.observed_objects import ObservedJob, ObservedPod, ObservedRun, RelatedObjects
from aisandbox_operator.plan import Plan, plan
from aisandbox_operator.settings import Settings
from aisandbox_operator.status_fields import own_fields

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
SETTINGS = Settings(namespace="sandbox", trainer_image="aisandbox/trainer:1", progress_address="api:50051")
RUN_UID = "run-uid"
JOB_UID = "job-uid"
QUEUE = {QUEUE_LABEL: "gpus"}
RUNNING = TrainingRunStatus(phase=Phase.RUNNING, attempt=1, start_time="2026-03-01T11:00:00Z")
SUCCEEDED = TrainingRunStatus(phase=Phase.SUCCEEDED, completion_time="2026-03-01T11:59:00Z", observed_generation=1)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def spec(**fields: Any) -> TrainingRunSpec:
    return TrainingRunSpec(**{"algorithm": Algorithm.PPO, "total_timesteps": 1000, **fields})


def run(status: TrainingRunStatus | None = None, *, of: TrainingRunSpec | None = None, **fields: Any) -> ObservedRun:
    known: dict[str, Any] = {"name": "walk", "uid": RUN_UID, "spec": of or spec(), "generation": 1}
    return ObservedRun(**{**known, "status": status or TrainingRunStatus(), **fields})


def job(**fields: Any) -> ObservedJob:
    known = {"name": "walk", "uid": JOB_UID, "owner_kind": "TrainingRun", "owner_uid": RUN_UID, "has_settled": True}
    return ObservedJob(**{**known, "created": ago(60), **fields})


def pod(**fields: Any) -> ObservedPod:
    known = {"name": "walk-abcde", "uid": "pod-uid", "job_uid": JOB_UID, "files_uid": RUN_UID, "created": ago(50)}
    return ObservedPod(**{**known, **fields})


def running_pod(**fields: Any) -> ObservedPod:
    return pod(**{"phase": "Running", "is_running": True, "started": ago(40), "scheduled": ago(45), **fields})


def ended_pod(code: int, **fields: Any) -> ObservedPod:
    phase = "Failed" if code else "Succeeded"
    return pod(**{"phase": phase, "exit_code": code, "started": ago(40), "ended": ago(5), **fields})


def ending(attempt: int, code: int, timesteps: int = 500, failure: Failure | None = None) -> TerminationMessage:
    return TerminationMessage(attempt, timesteps, exit_code=code, failure=failure)


def planned(
    run_: ObservedRun,
    job_: ObservedJob | None = None,
    *pods: ObservedPod,
    settings: Settings = SETTINGS,
    now: datetime = NOW,
) -> Plan:
    return plan(run_, RelatedObjects(job_, pods), settings, now)


def reconciled(
    run_: ObservedRun,
    job_: ObservedJob | None = None,
    *pods: ObservedPod,
    settings: Settings = SETTINGS,
    now: datetime = NOW,
) -> tuple[ObservedRun, ObservedJob | None]:
    """The run and the Job once every plan is carried out, at one moment; fails if the plans do not become empty."""
    for _ in range(6):
        step = plan(run_, RelatedObjects(job_, pods), settings, now)
        if step.is_empty:
            return run_, job_
        run_, job_ = carried_out(step, run_, job_)
    raise AssertionError(f"the plan never becomes empty: {step}")


def carried_out(step: Plan, run_: ObservedRun, job_: ObservedJob | None) -> tuple[ObservedRun, ObservedJob | None]:
    """What the API server has after the plan's writes, before any controller has acted on them."""
    if isinstance(step.action, CreateJob):
        assert job_ is None, "two Jobs"
        job_ = ObservedJob(
            name=run_.name,
            uid="made-uid",
            owner_kind="TrainingRun",
            owner_uid=run_.uid,
            is_suspended=step.action.suspended,
            failures_before=step.action.failures_before,
            created=NOW,
            queue="" if run_.spec is None else wanted_labels(run_.spec, run_.labels).get(QUEUE_LABEL, ""),
        )
    elif isinstance(step.action, SuspendJob):
        assert job_ is not None
        assert job_.uid == step.action.uid
        job_ = replace(job_, is_suspended=step.action.suspended, has_settled=False)
    elif isinstance(step.action, DeleteJob):
        assert job_ is not None
        assert job_.uid == step.action.uid
        job_ = replace(job_, is_being_deleted=True)
    if step.status is not None:
        stored = status_from_json(own_fields(step.status) | {"progress": own_progress(step.status)})
        assert own_fields(stored) == own_fields(step.status), "what is written is read as something else"
        run_ = replace(run_, status=step.status)
    return run_, job_


def own_progress(status: TrainingRunStatus) -> dict[str, Any]:
    progress: dict[str, Any] = own_fields(status).get("progress", {})
    return progress


def condition(status: TrainingRunStatus, kind: ConditionType) -> Condition:
    return next(each for each in status.conditions if each.type is kind)

"""A Job that was created from an earlier spec or settings: ``outdated_job.replace_outdated_job``, a row a rule."""

from __future__ import annotations

from dataclasses import replace

from aisandbox_crds.reasons import Reason
from aisandbox_crds.spec import TrainingRunSpec
from aisandbox_crds.status import Phase, TrainingRunStatus
from aisandbox_operator.decision import DeleteJob
from aisandbox_operator.job_manifest import job_origin
from aisandbox_operator.observed_objects import ObservedJob
from aisandbox_operator.observed_state import ObservedState
from aisandbox_operator.rules.outdated_job import replace_outdated_job
from aisandbox_operator.settings import Settings
from operator_objects import (
    JOB_UID,
    NOW,
    QUEUE,
    RUN_UID,
    RUNNING,
    SETTINGS,
    ago,
    ended_pod,
    job,
    pod,
    reconciled,
    run,
    running_pod,
    spec,
)
from rule_cases import Decided, check, observed, table

WRONG = replace(SETTINGS, trainer_image="example.com/wrong:1")
QUEUED = spec(labels=QUEUE)
BIG_IN_QUEUE = replace(QUEUED, resources={"requests": {"cpu": "64"}})
BIG = spec(resources={"requests": {"cpu": "64"}})


def job_from(settings: Settings = SETTINGS, of: TrainingRunSpec | None = None, **fields: object) -> ObservedJob:
    """A Job that was created from these; the run and the operator have others now."""
    return job(origin=job_origin("walk", RUN_UID, of or spec(), settings), **fields)


IN_QUEUE = run(TrainingRunStatus(phase=Phase.PENDING), of=QUEUED)
NEW, STARTED = run(TrainingRunStatus(phase=Phase.STARTING)), run(RUNNING)
PULLING = pod(image=WRONG.trainer_image, waits_for="ErrImagePull")
REPLACED = Decided(Phase.PENDING, Reason.REPLACING_JOB, DeleteJob(JOB_UID))
BY_SPEC = replace(REPLACED, message="the run's spec was changed")
BY_SETTINGS = replace(REPLACED, message="the operator's settings were changed")


@table(
    ("a run without a Job has none to replace", observed(NEW), None),
    ("a Job of the present spec and settings is kept", observed(NEW, job_from(), pod()), None),
    ("a Job that an earlier version has created is kept", observed(NEW, job(), PULLING), None),
    ("a run that has not started gets the corrected image", observed(NEW, job_from(WRONG), PULLING), BY_SETTINGS),
    ("so does one whose Job has no pod", observed(NEW, job_from(WRONG)), BY_SETTINGS),
    (
        "so does one that was created suspended",
        observed(NEW, job_from(WRONG, is_suspended=True)),
        BY_SETTINGS,
    ),
    (
        "one that waits for Kueue keeps its place in the queue",
        observed(IN_QUEUE, job_from(WRONG, of=QUEUED, is_suspended=True, queue="gpus")),
        None,
    ),
    (
        "one that Kueue has admitted keeps its room",
        observed(IN_QUEUE, job_from(WRONG, of=QUEUED, queue="gpus"), pod(image=WRONG.trainer_image)),
        None,
    ),
    (
        "but for an image that cannot be pulled, in Kueue too",
        observed(IN_QUEUE, job_from(WRONG, of=QUEUED, queue="gpus"), PULLING),
        BY_SETTINGS,
    ),
    (
        "one that waits for Kueue gets the resources that it asks for now",
        observed(IN_QUEUE, job_from(of=BIG_IN_QUEUE, is_suspended=True, queue="gpus")),
        BY_SPEC,
    ),
    ("a trainer that runs is not disturbed", observed(STARTED, job_from(WRONG), running_pod()), None),
    ("a run that has started keeps its settings", observed(STARTED, job_from(WRONG, is_suspended=True)), None),
    ("but for an image that cannot be pulled", observed(STARTED, job_from(WRONG), PULLING), BY_SETTINGS),
    (
        "a run that cannot be scheduled gets the resources that it asks for now",
        observed(NEW, job_from(of=BIG), pod(unscheduled="Unschedulable")),
        BY_SPEC,
    ),
    ("so does one that was suspended", observed(STARTED, job_from(of=BIG, is_suspended=True)), BY_SPEC),
    (
        "so does one between two attempts",
        observed(STARTED, job_from(of=BIG, failed=1), ended_pod(137)),
        BY_SPEC,
    ),
    ("not before the Job has counted the failure", observed(STARTED, job_from(of=BIG), ended_pod(137)), None),
    ("not after a success", observed(STARTED, job_from(of=BIG), ended_pod(0)), None),
    ("not while the trainer runs", observed(STARTED, job_from(of=BIG, active=1), running_pod()), None),
    ("not while its pod is ending", observed(NEW, job_from(of=BIG), pod(deletion_time=NOW)), None),
    ("not when its Job has ended", observed(STARTED, job_from(of=BIG, end="Failed")), None),
    ("not when its Job is about to end", observed(STARTED, job_from(of=BIG, is_finishing=True)), None),
)
def test_outdated_job(state: ObservedState, decided: Decided | None) -> None:
    check(replace_outdated_job(state), decided)


def test_replaced_job_has_the_rest_of_the_backoff_limit() -> None:
    found, ending = reconciled(STARTED, job_from(of=BIG, failed=2, created=ago(60)), ended_pod(137))
    assert ending is not None
    assert ending.is_being_deleted
    assert found.status.restarts_count_towards_max == 2
    _, created = reconciled(found)
    assert created is not None
    assert created.failures_before == 2


def test_replacement_is_not_replaced() -> None:
    found, _ = reconciled(NEW, job_from(WRONG), PULLING)
    again, created = reconciled(found)
    assert created is not None
    assert replace_outdated_job(observed(again, replace(created, origin=job_from().origin))) is None

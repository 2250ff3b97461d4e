"""A Job that has the run's name and belongs to something else: ``job_name.check_job_name``, a row a rule."""

from dataclasses import replace

from aisandbox_crds.reasons import Reason
from aisandbox_crds.status import Phase, TrainingRunStatus
from aisandbox_operator.decision import CreateJob, DeleteJob
from aisandbox_operator.decoding import read_job
from aisandbox_operator.job_manifest import job_manifest
from aisandbox_operator.observed_state import ObservedState
from aisandbox_operator.rules.job_name import WAIT_SECONDS, check_job_name
from operator_objects import JOB_UID, RUN_UID, SETTINGS, job, planned, reconciled, run, running_pod, spec
from rule_cases import Decided, check, observed, table

EARLIER = job(owner_uid="earlier-uid")
FOREIGN = job(owner_kind="CronJob", owner_uid="x")
RESTORED = run(TrainingRunStatus(phase=Phase.RUNNING, files_uid="earlier-uid", attempt=2))
BEFORE = job(files_uid=RUN_UID, active=1)
"""The Job that was created between the run and its status."""
REPLACES = Decided(
    Phase.RUNNING, Reason.EARLIER_JOB_ENDING, DeleteJob(JOB_UID), WAIT_SECONDS, message="restored from a backup"
)
WAITS = Decided(Phase.PENDING, Reason.EARLIER_JOB_ENDING, requeue_after=WAIT_SECONDS)
TAKEN = Decided(Phase.FAILED, Reason.JOB_NAME_TAKEN, message="there is a Job 'walk'")


@table(
    ("no Job has the name", observed(run()), None),
    ("the Job is the run's own", observed(run(), job()), None),
    ("the Job of a deleted run is waited for", observed(run(), EARLIER), WAITS),
    (
        "a Job of something else that is being deleted is waited for",
        observed(run(), job(owner_kind="CronJob", owner_uid="x", is_being_deleted=True)),
        WAITS,
    ),
    ("a Job of something else fails the run", observed(run(), FOREIGN), TAKEN),
    ("a Job that belongs to nothing fails the run", observed(run(), job(owner_kind="", owner_uid="")), TAKEN),
    (
        "a cancelled run does not wait",
        observed(run(of=spec(cancel=True)), EARLIER),
        Decided(Phase.CANCELLED, Reason.CANCELLED),
    ),
    ("the Job of a run that was restored after it is deleted", observed(RESTORED, BEFORE, running_pod()), REPLACES),
    (
        "the Job of a restored run is waited for while it is being deleted",
        observed(RESTORED, replace(BEFORE, is_being_deleted=True)),
        replace(REPLACES, action=None),
    ),
    ("a Job that continues the restored files is kept", observed(RESTORED, job(files_uid="earlier-uid")), None),
    ("a Job that an earlier version created is kept", observed(RESTORED, job()), None),
)
def test_job_name(state: ObservedState, decided: Decided | None) -> None:
    check(check_job_name(state), decided)


def test_restored_run_gets_a_job_that_continues_its_files() -> None:
    begun = run(TrainingRunStatus(files_uid="earlier-uid", attempt=2, phase=Phase.RUNNING))
    ending = planned(begun, BEFORE, running_pod(exit_code=0, phase="Succeeded"))
    assert ending.status is not None
    assert (ending.status.phase, ending.status.files_uid) == (Phase.RUNNING, "earlier-uid"), "not the trainer's end"
    after = replace(begun, status=ending.status)
    assert planned(after, BEFORE).action == DeleteJob(JOB_UID)
    created = planned(after).action
    assert created == CreateJob(suspended=False, failures_before=0)
    manifest = job_manifest("walk", RUN_UID, spec(), SETTINGS, 0, suspended=False, files_uid=after.files_uid)
    kept = read_job(manifest | {"metadata": manifest["metadata"] | {"uid": "new"}})
    assert kept.files_uid == "earlier-uid"
    assert planned(after, kept).action is None


def test_job_of_something_else_is_not_changed() -> None:
    _, kept = reconciled(run(), FOREIGN)
    assert kept == FOREIGN

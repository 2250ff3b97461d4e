"""Runs that are deleted or done: the rules of ``time_to_live``, a row a case."""

from dataclasses import replace

from aisandbox_crds.reasons import Reason
from aisandbox_crds.status import Phase
from aisandbox_operator.decision import DeleteJob
from aisandbox_operator.observed_state import ObservedState
from aisandbox_operator.rules.time_to_live import clean_up_done_run, ignore_deleted_run
from operator_objects import JOB_UID, RUN_UID, RUNNING, SUCCEEDED, job, planned, run, running_pod, spec
from rule_cases import Decided, check, observed, table

KEEPS = frozenset({"keeps_status"})
NOTHING = Decided(Phase.SUCCEEDED, Reason.DONE, flags=KEEPS)
DELETES = Decided(Phase.SUCCEEDED, Reason.DONE, DeleteJob(JOB_UID), flags=KEEPS)
DONE = run(SUCCEEDED)  # 60 s ago
COMPLETE = job(end="Complete")


@table(
    ("a run that exists is not ignored", observed(run(RUNNING)), None),
    (
        "a run that is being deleted is left to Kubernetes",
        observed(run(RUNNING, is_being_deleted=True), job(active=1), running_pod()),
        Decided(Phase.RUNNING, Reason.DELETED, flags=KEEPS),
    ),
)
def test_deleted_run(state: ObservedState, decided: Decided | None) -> None:
    check(ignore_deleted_run(state), decided)


@table(
    ("a run that is not done is not cleaned up", observed(run(RUNNING), job(active=1)), None),
    ("a done run without a Job needs nothing", observed(DONE), NOTHING),
    ("a Job that is being deleted needs nothing", observed(DONE, job(is_being_deleted=True)), NOTHING),
    ("a Job that has not finished is deleted at once", observed(DONE, job()), DELETES),
    (
        "a Job from before the run was restored is deleted at once",
        observed(run(replace(SUCCEEDED, files_uid="earlier-uid")), job(end="Complete", files_uid=RUN_UID)),
        DELETES,
    ),
    ("a finished Job is kept without a time to live", observed(DONE, COMPLETE), NOTHING),
    (
        "a finished Job is kept for its time to live",
        observed(run(SUCCEEDED, of=spec(ttl_seconds_after_finished=100)), COMPLETE),
        Decided(Phase.SUCCEEDED, Reason.DONE, requeue_after=40.0, flags=KEEPS),
    ),
    (
        "a finished Job is deleted when its time to live has passed",
        observed(run(SUCCEEDED, of=spec(ttl_seconds_after_finished=60)), COMPLETE),
        DELETES,
    ),
    (
        "a done run whose spec cannot be read keeps its finished Job",
        observed(run(SUCCEEDED, spec=None), COMPLETE),
        NOTHING,
    ),
)
def test_done_run(state: ObservedState, decided: Decided | None) -> None:
    check(clean_up_done_run(state), decided)


def test_plan_of_a_deleted_or_done_run_is_empty() -> None:
    assert planned(run(RUNNING, is_being_deleted=True)).is_empty
    assert planned(DONE).is_empty
    assert planned(DONE, job(is_being_deleted=True)).is_empty

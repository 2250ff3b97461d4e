"""A Job that has the run's name and belongs to something else: ``job_name.check_job_name``, a row a rule."""

from aisandbox_crds.reasons import Reason
from aisandbox_crds.status import Phase
from aisandbox_operator.observed_state import ObservedState
from aisandbox_operator.policies.job_name import WAIT_SECONDS, check_job_name
from operator_objects import job, reconciled, run, spec
from policy_rules import Decided, check, observed, table

EARLIER = job(owner_uid="earlier-uid")
FOREIGN = job(owner_kind="CronJob", owner_uid="x")
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
)
def test_job_name(state: ObservedState, decided: Decided | None) -> None:
    check(check_job_name(state), decided)


def test_job_of_something_else_is_not_changed() -> None:
    _, kept = reconciled(run(), FOREIGN)
    assert kept == FOREIGN

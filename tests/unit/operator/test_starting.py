"""A pod that has a node and whose trainer has not begun."""

from datetime import timedelta

from aisandbox_crds.status import ConditionType, Phase
from operator_views import NOW, ago, followed, job, planned, pod, run

CREATING = pod(waits_for="ContainerCreating", created=ago(2000), scheduled=ago(590))


def test_pod_that_starts_is_looked_at_again_when_that_takes_too_long() -> None:
    step = planned(run(), job(active=1), CREATING)
    assert step.status is not None
    assert step.status.phase is Phase.STARTING
    assert step.look_again == 10.0
    assert step.announcements == ()


def test_pod_that_starts_slowly_is_told_of_and_never_fails_the_run() -> None:
    late = NOW + timedelta(seconds=10)
    step = planned(run(), job(active=1), CREATING, now=late)
    assert step.status is not None
    assert [told.reason for told in step.announcements] == ["StartingSlowly"]
    running = next(each for each in step.status.conditions if each.type is ConditionType.RUNNING)
    assert (running.reason, "kubectl describe pod walk-abcde" in running.message) == ("StartingSlowly", True)
    found, _ = followed(run(), job(active=1), CREATING, now=NOW + timedelta(days=9))
    assert found.status.phase is Phase.STARTING

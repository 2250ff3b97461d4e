"""What holds of every plan, for any mixture of run, Job and pods, sensible or not."""

from dataclasses import replace
from datetime import timedelta

from aisandbox_crds.spec import TrainingRunSpec
from aisandbox_crds.status import Phase, Progress, TrainingRunStatus
from aisandbox_crds.status_values import Failure
from aisandbox_crds.trainer_exit import TerminationMessage
from aisandbox_operator.decision import CreateJob, DeleteJob
from aisandbox_operator.job_manifest import job_manifest
from aisandbox_operator.observed_objects import ObservedJob, ObservedPod, ObservedRun, RelatedObjects
from aisandbox_operator.plan import plan
from hypothesis import given, settings
from hypothesis import strategies as st
from operator_objects import NOW, QUEUE, RUN_UID, SETTINGS, carried_out, spec

times = st.none() | st.integers(-4000, 4000).map(lambda seconds: NOW - timedelta(seconds=seconds))
time_texts = st.sampled_from(
    [None, "", "rubbish", "2026-03-01T11:00:00Z", "2026-03-01T11:59:59Z", "9999-12-31T23:59:59Z"]
)
small = st.integers(0, 5)
specs = st.none() | st.builds(
    lambda suspend, cancel, limit, ttl, deadline, labels: spec(
        suspend=suspend,
        cancel=cancel,
        backoff_limit=limit,
        ttl_seconds_after_finished=ttl,
        active_deadline_seconds=deadline,
        labels=labels,
    ),
    st.booleans(),
    st.booleans(),
    small,
    st.none() | st.integers(0, 4000),
    st.none() | small,
    st.sampled_from([{}, QUEUE]),
)
statuses = st.builds(
    TrainingRunStatus,
    phase=st.sampled_from(Phase),
    start_time=time_texts,
    completion_time=time_texts,
    progress=st.builds(Progress, timesteps=st.integers(0, 2000), attempt=small, last_updated_time=time_texts),
    attempt=small,
    suspensions=small,
    restarts=small,
    restarts_count_towards_max=small,
)
runs = st.builds(
    ObservedRun,
    name=st.just("walk"),
    uid=st.just(RUN_UID),
    spec=specs,
    status=statuses,
    problem=st.sampled_from(["", "", "spec.seed: must be less"]),
    generation=small,
    is_being_deleted=st.sampled_from([False, False, False, True]),
)
jobs = st.none() | st.builds(
    ObservedJob,
    name=st.just("walk"),
    uid=st.just("job-uid"),
    owner_kind=st.sampled_from(["TrainingRun", "TrainingRun", "", "CronJob"]),
    owner_uid=st.sampled_from([RUN_UID, RUN_UID, RUN_UID, "other", ""]),
    is_being_deleted=st.booleans(),
    is_suspended=st.booleans(),
    has_settled=st.booleans(),
    active=st.integers(0, 1),
    failed=small,
    failures_before=small,
    end=st.sampled_from(["", "", "Complete", "Failed"]),
    end_reason=st.sampled_from(["", "BackoffLimitExceeded", "DeadlineExceeded", "PodFailurePolicy", "new one"]),
    ended=times,
)
endings = st.none() | st.builds(
    TerminationMessage,
    attempt=small,
    exit_code=st.sampled_from([0, 75, 78, 143]),
    timesteps=st.integers(0, 2000),
    failure=st.none() | st.builds(Failure, st.text(max_size=20), st.text(max_size=20)),
)
pods = st.builds(
    ObservedPod,
    name=st.sampled_from(["walk-a", "walk-b"]),
    uid=st.just("pod"),
    phase=st.sampled_from(["Pending", "Running", "Succeeded", "Failed", "Unknown"]),
    job_uid=st.sampled_from(["job-uid", "old", ""]),
    files_uid=st.sampled_from([RUN_UID, "other", ""]),
    created=times,
    scheduled=times,
    deletion_time=times,
    reason=st.sampled_from(["", "Evicted", "NodeLost"]),
    was_disrupted=st.booleans(),
    unscheduled=st.sampled_from(["", "Unschedulable"]),
    unscheduled_message=st.sampled_from(["", 'persistentvolumeclaim "m" not found', "Insufficient cpu"]),
    waits_for=st.sampled_from(["", "ContainerCreating", "ErrImagePull", "CreateContainerConfigError"]),
    is_running=st.booleans(),
    started=times,
    exit_code=st.sampled_from([None, 0, 1, 78, 137, 143]),
    ended=times,
    termination_message=endings,
)
worlds = st.builds(RelatedObjects, jobs, st.lists(pods, max_size=3).map(tuple))
EXAMPLES = settings(max_examples=500, deadline=None)


@given(runs, worlds)
@EXAMPLES
def test_plans_become_empty_and_keep_their_invariants(run: ObservedRun, seen: RelatedObjects) -> None:
    now_run, now_job = run, seen.job
    for _ in range(6):
        step = plan(now_run, RelatedObjects(now_job, seen.pods), SETTINGS, NOW)
        check_step(now_run, now_job, step.action, step.status)
        assert step.requeue_after is None or step.requeue_after >= 0
        if step.is_empty:
            return
        now_run, now_job = carried_out(step, now_run, now_job)
        seen = marked(seen, step.disrupted_pod)
    raise AssertionError(f"the plans never become empty: {step}")


def marked(seen: RelatedObjects, disrupted: ObservedPod | None) -> RelatedObjects:
    """The mark of a pod is on it."""
    pods = (replace(pod, was_disrupted=True) if pod == disrupted else pod for pod in seen.pods)
    return replace(seen, pods=tuple(pods))


def check_step(run: ObservedRun, job: ObservedJob | None, action: object, status: TrainingRunStatus | None) -> None:
    before = run.status
    if before.phase.is_done or run.is_being_deleted:
        seen = None if status is None else replace(status, observed_generation=before.observed_generation)
        assert seen in (None, before), "a terminal phase never changes"
        assert not isinstance(action, CreateJob), "nothing is made for a done run"
    if isinstance(action, CreateJob):
        assert job is None, "never two Jobs"
        assert run.spec is not None
        assert not run.spec.cancel
        assert run.spec.suspend <= action.suspended
        assert_budget(run.spec, action, before)
    if isinstance(action, DeleteJob):
        assert status is None, "a Job goes only when what it knew is recorded"
    if status is not None:
        assert status.attempt >= before.attempt
        assert status.suspensions >= before.suspensions
        assert status.restarts >= before.restarts
        assert status.restarts_count_towards_max >= before.restarts_count_towards_max
    if status is not None and not before.phase.is_done:
        assert (status.failure is not None) == (status.phase is Phase.FAILED)
        assert bool(status.completion_time) or not status.phase.is_done


def assert_budget(wish: TrainingRunSpec, action: CreateJob, before: TrainingRunStatus) -> None:
    """What is spent and what the new Job may spend are together never more than what the run was given."""
    made = job_manifest("walk", RUN_UID, wish, SETTINGS, action.failures_before, action.suspended)
    assert action.failures_before >= before.restarts_count_towards_max
    assert made["spec"]["backoffLimit"] <= max(wish.backoff_limit - before.restarts_count_towards_max, 0)


@given(runs, worlds)
@EXAMPLES
def test_plan_of_the_same_state_is_the_same(run: ObservedRun, seen: RelatedObjects) -> None:
    assert plan(run, seen, SETTINGS, NOW) == plan(run, seen, SETTINGS, NOW)


@given(runs, worlds)
@settings(max_examples=300, deadline=None)
def test_order_of_pods_does_not_matter(run: ObservedRun, seen: RelatedObjects) -> None:
    named = tuple(replace(pod, name=f"walk-{index}") for index, pod in enumerate(seen.pods))
    forth, back = RelatedObjects(seen.job, named), RelatedObjects(seen.job, named[::-1])
    assert plan(run, forth, SETTINGS, NOW) == plan(run, back, SETTINGS, NOW)

"""The plan over a broad set of states: what a crash, a lost event or a person may leave behind."""

from dataclasses import replace
from datetime import timedelta

import pytest
from aisandbox_crds.status import (
    Artifact,
    Condition,
    ConditionStatus,
    ConditionType,
    Failure,
    Phase,
    Progress,
    TrainingRunStatus,
)
from aisandbox_operator.decision import CreateJob, DeleteJob, SuspendJob
from aisandbox_operator.plan import plan
from aisandbox_operator.status_fields import own_fields
from aisandbox_operator.views import Observed
from operator_views import (
    NOW,
    QUEUE,
    SETTINGS,
    ago,
    ended_pod,
    ending,
    followed,
    job,
    planned,
    pod,
    run,
    running_pod,
    spec,
)

RUNNING = TrainingRunStatus(phase=Phase.RUNNING, attempt=1, start_time="2026-03-01T11:00:00Z")
SUCCEEDED = TrainingRunStatus(phase=Phase.SUCCEEDED, completion_time="2026-03-01T11:59:00Z")
NOT_STARTED = TrainingRunStatus()


def condition(status: TrainingRunStatus, kind: ConditionType) -> Condition:
    return next(each for each in status.conditions if each.type is kind)


def test_new_run_gets_a_job_and_starts() -> None:
    step = planned(run())
    assert step.action == CreateJob(suspended=False, failures_before=0)
    assert step.status is not None
    assert step.status.phase is Phase.STARTING
    assert step.status.observed_generation == 1
    assert [told.reason for told in step.announcements] == ["JobCreated"]


def test_running_trainer_makes_the_run_running_since_its_start() -> None:
    step = planned(run(), job(active=1), running_pod())
    assert step.action is None
    assert step.status is not None
    assert step.status.phase is Phase.RUNNING
    assert step.status.start_time == "2026-03-01T11:59:20Z"
    assert condition(step.status, ConditionType.RUNNING).status is ConditionStatus.TRUE
    assert [told.reason for told in step.announcements] == ["TrainerRunning"]


def test_unchanged_run_has_an_empty_plan() -> None:
    found, _ = followed(run(), job(active=1), running_pod())
    assert planned(found, job(active=1), running_pod()).is_empty


def test_condition_keeps_its_time_while_its_status_stays() -> None:
    found, _ = followed(run(), job(active=1), running_pod())
    later = NOW + timedelta(hours=1)
    step = planned(found, job(active=1), running_pod(), now=later)
    assert step.status is not None
    assert condition(step.status, ConditionType.PROGRESS_STALLED).last_transition_time == "2026-03-01T13:00:00Z"
    assert condition(step.status, ConditionType.RUNNING).last_transition_time == "2026-03-01T12:00:00Z"


def test_complete_job_ends_the_run_with_what_its_trainer_said() -> None:
    over = ended_pod(0, ending=ending(2, 0, timesteps=1000))
    step = planned(run(RUNNING), job(end="Complete", ended=ago(3)), over)
    assert step.status is not None
    assert step.status.phase is Phase.SUCCEEDED
    assert step.status.completion_time == "2026-03-01T11:59:57Z"
    assert step.status.attempt == 2
    assert step.status.restarts == 1
    assert (step.status.progress.timesteps, step.status.progress.progress_percentage) == (1000, 100.0)


def test_termination_message_of_an_older_attempt_does_not_set_progress_back() -> None:
    status = replace(RUNNING, attempt=2, progress=Progress(timesteps=900, attempt=2))
    step = planned(run(status), job(end="Complete"), ended_pod(143, ending=ending(1, 143, timesteps=100)))
    assert step.status is not None
    assert step.status.progress.timesteps == 900


@pytest.mark.parametrize("gone", [None, job(is_being_deleted=True)])
def test_finished_run_makes_nothing_when_its_job_is_gone(gone: object) -> None:
    assert planned(run(SUCCEEDED), gone).is_empty  # type: ignore[arg-type]


def test_finished_run_deletes_a_job_that_could_still_run() -> None:
    assert planned(run(SUCCEEDED), job()).action == DeleteJob("job-uid")


def test_finished_run_keeps_its_job_for_its_time_to_live() -> None:
    alive = planned(run(SUCCEEDED, of=spec(ttl_seconds_after_finished=100)), job(end="Complete"))
    assert alive.is_empty
    assert alive.look_again == 40
    over = planned(run(SUCCEEDED, of=spec(ttl_seconds_after_finished=60)), job(end="Complete"))
    assert over.action == DeleteJob("job-uid")
    assert planned(run(SUCCEEDED), job(end="Complete")).look_again is None


def test_deleted_run_is_left_to_kubernetes() -> None:
    assert planned(run(RUNNING, is_being_deleted=True)).is_empty


def test_job_deleted_by_hand_is_made_again_with_the_rest_of_the_budget() -> None:
    status = replace(RUNNING, restarts_count_towards_max=2)
    assert planned(run(status)).action == CreateJob(suspended=False, failures_before=2)


def test_job_deleted_by_hand_is_made_again_only_after_its_pods() -> None:
    step = planned(run(RUNNING), None, running_pod(deletion_time=NOW + timedelta(seconds=60)))
    assert step.action is None
    assert step.look_again is not None
    over = planned(run(RUNNING), None, running_pod(deletion_time=ago(3600)))
    assert isinstance(over.action, CreateJob)


def test_job_being_deleted_is_waited_for() -> None:
    step = planned(run(RUNNING), job(is_being_deleted=True), running_pod())
    assert step.action is None
    assert step.status is not None
    assert step.status.phase is Phase.RUNNING


def test_trainer_that_was_done_when_its_job_went_ends_the_run() -> None:
    step = planned(run(RUNNING), None, ended_pod(0, ending=ending(1, 0, 1000)))
    assert step.status is not None
    assert step.status.phase is Phase.SUCCEEDED


def test_job_of_a_deleted_run_of_the_same_name_is_waited_for() -> None:
    step = planned(run(), job(owner_uid="earlier-uid"))
    assert step.action is None
    assert step.look_again is not None
    assert step.status is not None
    assert step.status.phase is Phase.PENDING


@pytest.mark.parametrize("owner", [{"owner_kind": "", "owner_uid": ""}, {"owner_kind": "CronJob", "owner_uid": "x"}])
def test_job_of_somebody_else_fails_the_run(owner: dict[str, str]) -> None:
    found, kept = followed(run(), job(**owner))
    assert found.status.failure is not None
    assert found.status.failure.reason == "JobNameTaken"
    assert kept == job(**owner)


def test_invalid_spec_fails_before_anything_is_made() -> None:
    step = planned(run(problem="spec.hyperparameters.gamma: must be at most 1"))
    assert step.action is None
    assert step.status is not None
    assert step.status.failure == Failure("InvalidRun", "spec.hyperparameters.gamma: must be at most 1")
    assert [(told.reason, told.is_warning) for told in step.announcements] == [("InvalidRun", True)]


def test_spec_that_became_invalid_is_left_to_its_trainer() -> None:
    step = planned(run(RUNNING, problem="stricter by now"), job(active=1), running_pod())
    assert step.status is not None
    assert step.status.phase is Phase.RUNNING


def test_unreadable_spec_fails_and_its_job_goes() -> None:
    found, left = followed(run(RUNNING, spec=None, problem="spec.algorithm: is required"), job(active=1), running_pod())
    assert found.status.phase is Phase.FAILED
    assert left is not None
    assert left.is_being_deleted


def test_cancel_before_the_start_makes_no_job() -> None:
    step = planned(run(of=spec(cancel=True)))
    assert step.action is None
    assert step.status is not None
    assert step.status.phase is Phase.CANCELLED


def test_cancel_stops_the_trainer_and_is_done_when_it_has_ended() -> None:
    wish = run(RUNNING, of=spec(cancel=True), generation=2)
    step = planned(wish, job(active=1), running_pod())
    assert step.action == SuspendJob("job-uid", suspended=True)
    assert step.status is not None
    assert step.status.phase is Phase.RUNNING
    stopping = job(is_suspended=True)
    assert planned(wish, stopping, running_pod(deletion_time=NOW)).status.phase is Phase.RUNNING  # type: ignore[union-attr]
    unsettled = job(is_suspended=True, has_settled=False)
    assert planned(wish, unsettled).status.phase is Phase.RUNNING  # type: ignore[union-attr]
    found, left = followed(wish, stopping, ended_pod(143, ending=ending(1, 143, 700)))
    assert found.status.phase is Phase.CANCELLED
    assert found.status.progress.timesteps == 700
    assert left is not None
    assert left.is_being_deleted


def test_cancel_of_a_suspended_run_ends_it() -> None:
    found, _ = followed(run(replace(RUNNING, phase=Phase.SUSPENDED), of=spec(cancel=True)), job(is_suspended=True))
    assert found.status.phase is Phase.CANCELLED


def test_trainer_that_was_done_before_the_cancel_has_succeeded() -> None:
    wish = run(RUNNING, of=spec(cancel=True))
    assert planned(wish, job(end="Complete")).status.phase is Phase.SUCCEEDED  # type: ignore[union-attr]
    stopped = planned(wish, job(is_suspended=True), ended_pod(0))
    assert stopped.status.phase is Phase.SUCCEEDED  # type: ignore[union-attr]


def test_job_that_failed_under_a_cancel_is_cancelled() -> None:
    step = planned(run(RUNNING, of=spec(cancel=True)), job(end="Failed", end_reason="BackoffLimitExceeded"))
    assert step.status is not None
    assert step.status.phase is Phase.CANCELLED
    assert step.status.failure is None


def test_suspend_is_complete_when_the_trainer_has_ended_and_counts_once() -> None:
    wish = run(RUNNING, of=spec(suspend=True))
    assert planned(wish, job(active=1), running_pod()).action == SuspendJob("job-uid", suspended=True)
    found, _ = followed(wish, job(is_suspended=True))
    assert found.status.phase is Phase.SUSPENDED
    assert (found.status.suspensions, found.status.restarts) == (1, 0)
    assert condition(found.status, ConditionType.SUSPENDED).status is ConditionStatus.TRUE
    again, _ = followed(found, job(is_suspended=True))
    assert again.status.suspensions == 1


def test_suspended_run_has_what_its_trainer_said_last_however_late_its_reports_are() -> None:
    reported = Progress(timesteps=600, total_timesteps=1000, attempt=1, last_updated_time="2026-03-01T12:00:00.900000Z")
    known = Artifact("checkpoints/600", 600, "sha256:6", time="2026-03-01T11:59:00Z")
    status = replace(RUNNING, attempt=1, progress=reported, latest_checkpoint=known)
    saved = Artifact("checkpoints/630", 630, "sha256:7")
    over = ended_pod(143, ending=replace(ending(1, 143, timesteps=630), latest_checkpoint=saved))
    paused, _ = followed(run(status, of=spec(suspend=True)), job(is_suspended=True), over)
    assert paused.status.phase is Phase.SUSPENDED
    assert paused.status.latest_checkpoint == saved
    assert (paused.status.progress.timesteps, paused.status.progress.progress_percentage) == (630, 63.0)
    assert (paused.status.progress.last_updated_time or "") > (reported.last_updated_time or "")
    assert "latestCheckpoint" in own_fields(replace(paused.status, phase=Phase.STARTING))
    assert own_fields(replace(paused.status, phase=Phase.STARTING))["progress"]["timesteps"] == 630
    same = replace(ending(1, 143, timesteps=600), latest_checkpoint=replace(known, time=None))
    paused, _ = followed(run(status, of=spec(suspend=True)), job(is_suspended=True), ended_pod(143, ending=same))
    assert paused.status.latest_checkpoint == known


def test_last_words_are_newer_than_what_is_known_whatever_the_clocks_and_the_reports() -> None:
    reported = Progress(timesteps=600, attempt=1, last_updated_time="2026-03-01T12:00:05.500000Z")
    over = ended_pod(143, ending=ending(2, 143, timesteps=700))
    wish = run(replace(RUNNING, attempt=1, progress=reported), of=spec(suspend=True))
    paused, _ = followed(wish, job(is_suspended=True), over)
    assert (paused.status.progress.attempt, paused.status.progress.timesteps) == (2, 700)
    assert paused.status.progress.last_updated_time == "2026-03-01T12:00:05.500001Z"
    assert own_fields(paused.status)["progress"]["attempt"] == 2


def test_run_created_suspended_whose_job_is_refused_is_suspended_all_the_same() -> None:
    step = plan(run(of=spec(suspend=True)), Observed(refused="403: exceeded quota"), SETTINGS, NOW)
    assert step.action is None
    assert "JobCreated" not in [told.reason for told in step.announcements]
    assert step.status is not None
    assert step.status.phase is Phase.SUSPENDED


def test_trainer_that_was_stopped_before_it_trained_takes_no_steps_back() -> None:
    status = replace(RUNNING, attempt=2, progress=Progress(timesteps=600, attempt=2))
    over = ended_pod(143, ending=ending(2, 143, timesteps=0))
    paused, _ = followed(run(status, of=spec(suspend=True)), job(is_suspended=True), over)
    assert paused.status.progress.timesteps == 600


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.SUSPENDED])
def test_trainer_that_nobody_has_seen_running_is_seen_before_it_is_suspended(phase: Phase) -> None:
    wish = run(replace(RUNNING, phase=phase, suspensions=1, attempt=1), of=spec(suspend=True))
    first = planned(wish, job(active=1), running_pod())
    assert first.action is None, "the pod is the only record of it"
    assert first.status is not None
    assert first.status.phase is Phase.RUNNING
    then = planned(run(first.status, of=spec(suspend=True)), job(active=1), running_pod())
    assert then.action == SuspendJob("job-uid", suspended=True)
    paused, _ = followed(run(first.status, of=spec(suspend=True)), job(is_suspended=True))
    assert (paused.status.suspensions, paused.status.restarts) == (2, 0)


def test_trainer_whose_last_words_nobody_heard_is_taken_to_have_claimed_its_attempt() -> None:
    wish = run(replace(RUNNING, attempt=0), of=spec(suspend=True))
    paused, _ = followed(wish, job(is_suspended=True))
    back = planned(run(paused.status), job(active=1), running_pod(), ended_pod(143, ending=ending(2, 143)))
    assert back.status is not None
    assert (back.status.attempt, back.status.suspensions, back.status.restarts) == (2, 1, 0)


def test_trainer_that_was_suspended_before_it_claimed_an_attempt_does_not_count() -> None:
    over = ended_pod(143, ending=ending(0, 143, timesteps=0))
    begun = run(replace(RUNNING, attempt=0), of=spec(suspend=True))
    paused, _ = followed(begun, job(is_suspended=True), over)
    assert (paused.status.attempt, paused.status.suspensions) == (0, 0)


def test_attempt_is_never_guessed_since_it_fences_reports() -> None:
    status = replace(
        RUNNING, attempt=1, restarts=3, progress=Progress(attempt=1)
    )  # three ended before they claimed one
    over = ended_pod(143, ending=ending(1, 143))
    paused, _ = followed(run(status, of=spec(suspend=True)), job(is_suspended=True), over)
    assert (paused.status.attempt, paused.status.suspensions) == (1, 1)


def test_pod_that_an_earlier_suspend_ends_is_no_trainer_at_work() -> None:
    leaving = running_pod(deletion_time=ago(5), was_disrupted=True)
    paused = replace(RUNNING, phase=Phase.SUSPENDED, attempt=1, suspensions=1)
    back, _ = followed(run(paused), job(active=1), leaving)
    assert back.status.phase is Phase.STARTING
    again, _ = followed(run(back.status, of=spec(suspend=True)), job(is_suspended=True))
    assert (again.status.attempt, again.status.suspensions) == (1, 1)


def test_trainer_that_was_stopped_before_it_went_on_takes_back_no_steps() -> None:
    status = replace(RUNNING, attempt=2, progress=Progress(timesteps=600, attempt=1))
    words = replace(ending(2, 143, timesteps=500), resumed_from=Artifact("checkpoints/500", 500, "d"))
    paused, _ = followed(run(status, of=spec(suspend=True)), job(is_suspended=True), ended_pod(143, ending=words))
    assert paused.status.progress.timesteps == 600


def test_run_that_has_succeeded_has_saved_all() -> None:
    full = Condition(ConditionType.CHECKPOINTS_SAVED, ConditionStatus.FALSE, "DiskFull", "no space")
    status = replace(RUNNING, conditions=(full,))
    done = planned(run(status), job(end="Complete"), ended_pod(0, ending=ending(1, 0)))
    assert done.status is not None
    assert condition(done.status, ConditionType.CHECKPOINTS_SAVED).status is ConditionStatus.TRUE
    assert "CheckpointsSaved" in [each["type"] for each in own_fields(done.status)["conditions"]]


def test_resume_sets_the_job_going_and_is_no_restart() -> None:
    paused = replace(RUNNING, phase=Phase.SUSPENDED, suspensions=1)
    step = planned(run(paused), job(is_suspended=True))
    assert step.action == SuspendJob("job-uid", suspended=False)
    back = planned(run(replace(paused, progress=Progress(attempt=2))), job(active=1), running_pod())
    assert back.status is not None
    assert (back.status.phase, back.status.attempt, back.status.restarts) == (Phase.RUNNING, 2, 0)


def test_run_created_suspended_has_a_suspended_job() -> None:
    step = planned(run(of=spec(suspend=True)))
    assert step.action == CreateJob(suspended=True, failures_before=0)
    assert step.status is not None
    assert step.status.phase is Phase.SUSPENDED
    assert step.status.suspensions == 0


def test_queued_run_waits_for_kueue() -> None:
    queued = run(of=spec(labels=QUEUE))
    step = planned(queued)
    assert step.action == CreateJob(suspended=True, failures_before=0)
    found, waiting = followed(queued, job(is_suspended=True))
    assert waiting == job(is_suspended=True)
    assert found.status.phase is Phase.PENDING
    assert condition(found.status, ConditionType.RUNNING).reason == "Queued"
    assert condition(found.status, ConditionType.SUSPENDED).status is ConditionStatus.TRUE


def test_run_preempted_by_kueue_is_queued_again_for_free() -> None:
    at_work = run(RUNNING, of=spec(labels=QUEUE))
    ending_ = planned(at_work, job(is_suspended=True), running_pod(deletion_time=NOW))
    assert ending_.status is not None
    assert (ending_.action, ending_.status.phase) == (None, Phase.RUNNING)
    found, _ = followed(at_work, job(is_suspended=True))
    assert found.status.phase is Phase.PENDING
    assert (found.status.suspensions, found.status.restarts_count_towards_max) == (1, 0)


def test_suspend_of_a_queued_run_gives_its_place_back() -> None:
    found, left = followed(run(RUNNING, of=spec(labels=QUEUE, suspend=True)), job(active=1, failed=1), running_pod())
    assert left is not None
    assert left.is_being_deleted
    assert found.status.restarts_count_towards_max == 1
    done, none = followed(found, None)
    assert done.status.phase is Phase.SUSPENDED
    assert none is None


def test_job_is_deleted_only_after_what_it_knew_is_recorded() -> None:
    step = planned(run(RUNNING, of=spec(labels=QUEUE, cancel=True)), job(active=1, failed=2), running_pod())
    assert step.action is None
    assert step.status is not None
    assert step.status.restarts_count_towards_max == 2
    assert step.look_again == 0.0


@pytest.mark.parametrize(
    ("over", "reason", "words"),
    [
        (ended_pod(137, exit_reason="OOMKilled"), "OOMKilled", "more memory"),
        (ended_pod(137, exit_reason="Error"), "TrainerKilled", "SIGKILL"),
        (ended_pod(1, last_words="ValueError: no"), "TrainerCrashed", "its last lines: ValueError: no"),
        (ended_pod(1, phase="Failed", reason="Evicted", exit_code=None, message="low on disk"), "Evicted", "disk"),
        (ended_pod(1, exit_code=None, reason="UnexpectedAdmissionError"), "UnexpectedAdmissionError", "before"),
        (ended_pod(128, exit_reason="StartError", last_words="no such file"), "StartError", "no such file"),
        (
            ended_pod(75, ending=ending(4, 75, failure=Failure("SimulatorUnreachable", "nobody is at sim:1"))),
            "SimulatorUnreachable",
            "nobody is at sim:1 (after 3 restarts: given up)",
        ),
        (ended_pod(75, ending=ending(4, 75, failure=Failure("not a word", "odd"))), "TrainerFailed", "odd"),
    ],
)
def test_job_that_gave_up_tells_why(over: object, reason: str, words: str) -> None:
    step = planned(
        run(RUNNING),
        job(end="Failed", end_reason="BackoffLimitExceeded", failed=4),
        over,  # type: ignore[arg-type]
    )
    assert step.status is not None
    assert step.status.phase is Phase.FAILED
    assert step.status.failure is not None
    assert step.status.failure.reason == reason
    assert words in step.status.failure.message
    assert step.status.restarts_count_towards_max == 3
    assert condition(step.status, ConditionType.FAILED).reason == reason


def test_permanent_failure_is_told_in_the_trainers_words_and_spends_no_retry() -> None:
    failure = Failure("InvalidHyperparameter", "learning_rate: must be positive")
    step = planned(
        run(RUNNING),
        job(end="Failed", end_reason="PodFailurePolicy", failed=1),
        ended_pod(78, ending=ending(1, 78, 0, failure)),
    )
    assert step.status is not None
    assert step.status.failure == failure
    assert step.status.restarts_count_towards_max == 0


def test_deadline_is_told_with_its_seconds() -> None:
    step = planned(
        run(RUNNING, of=spec(active_deadline_seconds=30)),
        job(end="Failed", end_reason="DeadlineExceeded"),
        ended_pod(143),
    )
    assert step.status is not None
    assert step.status.failure is not None
    assert step.status.failure.reason == "DeadlineExceeded"
    assert "30 s" in step.status.failure.message


def test_failed_job_without_pods_tells_what_the_job_says() -> None:
    step = planned(run(RUNNING), job(end="Failed", end_reason="BackoffLimitExceeded", end_message="has reached it"))
    assert step.status is not None
    assert step.status.failure is not None
    assert "has reached it" in step.status.failure.message


def test_run_between_two_attempts_is_pending_and_says_why() -> None:
    step = planned(run(RUNNING), job(failed=1), ended_pod(137, exit_reason="OOMKilled"))
    assert step.status is not None
    assert step.status.phase is Phase.PENDING
    assert step.status.restarts_count_towards_max == 1
    assert "OOMKilled" in condition(step.status, ConditionType.RUNNING).message
    assert [(told.reason, told.is_warning) for told in step.announcements] == [("Retrying", True)]


STUCK = {"phase": "Pending", "scheduled": ago(1999), "created": ago(2000)}


@pytest.mark.parametrize(
    ("waits_for", "reason"),
    [
        ("ErrImagePull", "ImagePullBackOff"),
        ("ImagePullBackOff", "ImagePullBackOff"),
        ("InvalidImageName", "InvalidImageName"),
        ("CreateContainerConfigError", "CreateContainerConfigError"),
    ],
)
def test_pod_that_cannot_start_fails_the_run_after_a_while(waits_for: str, reason: str) -> None:
    stuck = pod(**STUCK, waits_for=waits_for, wait_message="so it is")
    first = planned(run(), job(active=1), stuck)
    assert first.status is not None
    assert (first.status.phase, first.look_again) == (Phase.STARTING, 600), "whatever it did since it got its node"
    assert condition(first.status, ConditionType.RUNNING).reason == reason
    assert condition(first.status, ConditionType.PROGRESS_STALLED).reason == "CannotStart"
    assert [told.reason for told in first.announcements] == [reason]
    seen = run(first.status)
    assert planned(seen, job(active=1), stuck, now=NOW + timedelta(seconds=590)).look_again == 10
    found, left = followed(seen, job(active=1), stuck, now=NOW + timedelta(seconds=600))
    assert found.status.phase is Phase.FAILED
    assert found.status.failure is not None
    assert found.status.failure.reason == reason
    assert left is not None
    assert left.is_being_deleted


def test_missing_claim_fails_the_run_after_a_while() -> None:
    text = '0/1 nodes are available: persistentvolumeclaim "aisandbox-models" not found.'
    stuck = pod(unscheduled="Unschedulable", unscheduled_message=text, created=ago(601))
    seen, _ = followed(run(), job(active=1), stuck, now=ago(601))
    found, _ = followed(seen, job(active=1), stuck)
    assert found.status.failure is not None
    assert found.status.failure.reason == "ClaimNotFound"


def test_trouble_that_went_away_and_came_back_has_its_time_anew() -> None:
    stuck = pod(**STUCK, waits_for="ImagePullBackOff")
    seen, _ = followed(run(), job(active=1), stuck, now=ago(900))
    pulling, _ = followed(seen, job(active=1), pod(**STUCK, waits_for="ContainerCreating"), now=ago(301))
    assert condition(pulling.status, ConditionType.PROGRESS_STALLED).status is ConditionStatus.FALSE
    again, _ = followed(pulling, job(active=1), stuck)
    assert again.status.phase is Phase.STARTING


def test_time_without_progress_does_not_count_as_time_without_a_start() -> None:
    since = "2026-03-01T09:00:00Z"
    stalled = Condition(ConditionType.PROGRESS_STALLED, ConditionStatus.TRUE, "NoProgress", last_transition_time=since)
    stuck = pod(**STUCK, waits_for="ImagePullBackOff")
    found, _ = followed(run(replace(RUNNING, conditions=(stalled,))), job(active=1), stuck)
    assert found.status.phase is Phase.STARTING


def test_conditions_of_others_stay_and_are_not_the_operators_to_write() -> None:
    other = Condition(ConditionType.CHECKPOINTS_SAVED, ConditionStatus.FALSE, "DiskFull", "no space")
    found, _ = followed(run(TrainingRunStatus(conditions=(other,))), job(active=1), running_pod())
    assert condition(found.status, ConditionType.CHECKPOINTS_SAVED) == other
    assert "CheckpointsSaved" not in [each["type"] for each in own_fields(found.status)["conditions"]]
    assert planned(found, job(active=1), running_pod()).is_empty


def test_want_of_room_never_fails_the_run() -> None:
    stuck = pod(unscheduled="Unschedulable", unscheduled_message="Insufficient cpu", created=ago(10**6))
    found, _ = followed(run(), job(active=1), stuck)
    assert found.status.phase is Phase.STARTING
    assert condition(found.status, ConditionType.RUNNING).reason == "Unschedulable"


def test_silent_trainer_has_stalled_until_it_reports_again() -> None:
    silent = replace(RUNNING, progress=Progress(last_updated_time="2026-03-01T11:49:59Z"))
    old = running_pod(started=ago(9000))
    step = planned(run(silent), job(active=1), old)
    assert step.status is not None
    assert condition(step.status, ConditionType.PROGRESS_STALLED).status is ConditionStatus.TRUE
    assert "ProgressStalled" in [told.reason for told in step.announcements]
    heard = replace(step.status, progress=Progress(last_updated_time="2026-03-01T11:59:59Z"))
    back = planned(run(heard), job(active=1), old)
    assert back.status is not None
    assert condition(back.status, ConditionType.PROGRESS_STALLED).status is ConditionStatus.FALSE
    assert back.look_again == SETTINGS.stall_seconds - 1


def test_failure_that_the_job_has_not_counted_is_no_retry_yet() -> None:
    over = ended_pod(78, ending=ending(1, 78))
    step = planned(run(RUNNING), job(), over)
    assert step.status is not None
    assert step.status.phase is Phase.RUNNING
    assert not step.announcements
    deciding = planned(run(RUNNING), job(failed=1, is_finishing=True), over)
    assert deciding.status is not None
    assert deciding.status.phase is Phase.RUNNING


def test_job_without_a_pod_is_told_of_after_a_while() -> None:
    started = TrainingRunStatus(phase=Phase.STARTING)
    early = planned(run(started), job(started=ago(10)))
    assert early.look_again == 20
    late = planned(run(started), job(started=ago(31)))
    assert late.status is not None
    assert condition(late.status, ConditionType.RUNNING).reason == "NoPod"


def test_job_that_the_api_server_refuses_fails_the_run_if_it_always_will() -> None:
    for_good = Observed(refused="422: bad label", refused_for_good=True)
    found = plan(run(), for_good, SETTINGS, NOW)
    assert found.status is not None
    assert found.status.failure is not None
    assert found.status.failure.reason == "JobRefused"
    for_now = plan(run(), Observed(refused="403: exceeded quota"), SETTINGS, NOW)
    assert for_now.status is not None
    assert (for_now.status.phase, for_now.action, for_now.look_again) == (Phase.PENDING, None, 30.0)


def test_last_words_of_a_pod_that_is_gone_end_the_run_as_its_own_would() -> None:
    heard = Observed(job(is_suspended=True), heard=(ending(3, 143, 640),))
    found = plan(run(RUNNING, of=spec(cancel=True)), heard, SETTINGS, NOW)
    assert found.status is not None
    assert found.status.phase is Phase.CANCELLED
    assert (found.status.attempt, found.status.progress.timesteps) == (3, 640)


def test_eviction_is_a_restart_that_counts_for_nothing() -> None:
    evicted = replace(RUNNING, progress=Progress(attempt=2))
    step = planned(run(evicted), job(active=1), running_pod())
    assert step.status is not None
    assert (step.status.restarts, step.status.restarts_count_towards_max) == (1, 0)


def test_pod_that_somebody_deletes_is_marked_unless_its_job_ends_it() -> None:
    deleted = running_pod(deletion_time=NOW)
    assert planned(run(RUNNING), job(active=1), deleted).disrupted == deleted
    assert planned(run(RUNNING), job(active=1), running_pod()).disrupted is None
    assert planned(run(RUNNING), job(active=1), replace(deleted, was_disrupted=True)).disrupted is None
    assert planned(run(RUNNING), job(active=1), replace(deleted, phase="Failed", exit_code=137)).disrupted is None
    for ends in ({"is_suspended": True}, {"is_being_deleted": True}, {"is_finishing": True}, {"end": "Failed"}):
        assert planned(run(RUNNING), job(**ends), deleted).disrupted is None


def test_numbers_never_fall() -> None:
    many = replace(RUNNING, attempt=9, suspensions=2, restarts=6, restarts_count_towards_max=3)
    found, _ = followed(run(many), job(), ended_pod(1, ending=ending(1, 1)))
    assert found.status.attempt == 9
    assert (found.status.suspensions, found.status.restarts, found.status.restarts_count_towards_max) == (2, 6, 3)


def test_end_of_a_run_is_the_same_event_whatever_was_wished_meanwhile() -> None:
    """The status could not be written when it was told, and then the user suspended the run."""
    done = job(end="Complete"), ended_pod(0, ending=ending(1, 0))
    first, second = (planned(run(RUNNING, generation=generation), *done) for generation in (1, 2))
    assert [told.name for told in first.announcements] == [told.name for told in second.announcements]


def test_same_event_has_the_same_name_and_another_one_another() -> None:
    first, second = planned(run()), planned(run())
    assert first.announcements == second.announcements
    later = planned(run(replace(RUNNING, attempt=2)))
    assert later.announcements[0].name != first.announcements[0].name

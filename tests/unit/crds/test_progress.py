"""What a report makes of a status, and which of two progresses is newer."""

from dataclasses import replace
from typing import Any

import pytest
from aisandbox_crds.conditions import Condition, ConditionStatus, ConditionType
from aisandbox_crds.progress import (
    MAX_TEXT,
    idle,
    is_older,
    report_errors,
    status_after_last_report,
    status_after_report,
    truncate_texts,
    with_artifact_times,
    with_newer_progress,
)
from aisandbox_crds.status import Progress, ProgressReport, TrainingRunStatus
from aisandbox_crds.status_values import Activity, Artifact, LessonProgress

NOW, LATER = "2026-01-01T00:00:01.000000Z", "2026-01-01T00:00:02.000000Z"
CHECKPOINT = Artifact("checkpoints/400", 400, "sha256:c")
MODEL = Artifact("models/400", 400, "sha256:m", 3.5)
TRAINED = TrainingRunStatus(progress=Progress(timesteps=500, attempt=1, last_updated_time=NOW), attempt=1)


def report(timesteps: int, attempt: int = 2, **fields: Any) -> ProgressReport:
    return ProgressReport(attempt, timesteps, **{"activity": Activity.TRAINING, **fields})


def after(status: TrainingRunStatus, said: ProgressReport, running: bool = True, **options: Any) -> TrainingRunStatus:
    return status_after_report(status, said, options.pop("before", None), running=running, total=1000, now=LATER)


@pytest.mark.parametrize(("timesteps", "shown"), [(0, 500), (499, 500), (500, 500), (640, 640)])
def test_starting_attempt_shows_the_larger_of_the_known_and_the_reported_timesteps(timesteps: int, shown: int) -> None:
    status = after(TRAINED, report(timesteps, activity=Activity.STARTING, fps=5.0), running=False)
    assert status.progress.timesteps == shown
    assert (status.progress.fps, status.progress.estimated_remaining_seconds) == (0, None)


def test_training_attempt_shows_what_it_reports_also_when_that_is_less() -> None:
    status = after(TRAINED, report(410, fps=10.0))
    assert (status.progress.timesteps, status.progress.progress_percentage) == (410, 41.0)
    assert status.progress.estimated_remaining_seconds == 59.0


@pytest.mark.parametrize(
    ("reached", "resumed_from", "lost"),
    [(500, CHECKPOINT, 100), (500, None, 500), (400, CHECKPOINT, 0), (300, CHECKPOINT, 0)],
)
def test_restart_loses_what_was_trained_after_its_checkpoint_and_never_less_than_nothing(
    reached: int, resumed_from: Artifact | None, lost: int
) -> None:
    before = replace(TRAINED, progress=replace(TRAINED.progress, timesteps=reached), timesteps_lost=7)
    status = after(before, report(410, resumed_from=resumed_from), before=before)
    assert status.timesteps_lost == 7 + lost


def test_dropped_timesteps_are_lost_once_and_never_found_again() -> None:
    status = after(TRAINED, report(510, attempt=1, timesteps_dropped=40))
    assert status.timesteps_lost == 40
    status = after(status, report(520, attempt=1, timesteps_dropped=60))
    assert status.timesteps_lost == 60
    assert after(status, report(515, attempt=1, timesteps_dropped=50)).timesteps_lost == 60, "a report that came late"
    assert after(status, report(520, attempt=2, timesteps_dropped=5)).timesteps_lost == 65


def test_time_that_is_left_is_never_negative() -> None:
    assert after(TRAINED, report(1500, fps=10.0)).progress.estimated_remaining_seconds == 0
    assert after(TRAINED, report(1500, fps=10.0)).progress.progress_percentage == 100


def test_report_without_a_measurement_or_an_artifact_keeps_the_known_one() -> None:
    status = after(TRAINED, report(510, episode_reward_mean=1.0, latest_model=MODEL, warning="slow"))
    status = after(status, report(520, evaluation_reward_mean=2.0, latest_checkpoint=CHECKPOINT))
    assert (status.progress.episode_reward_mean, status.progress.evaluation_reward_mean) == (1.0, 2.0)
    assert (status.latest_model, status.latest_checkpoint, status.best_model) == (MODEL, CHECKPOINT, None)
    assert status.progress.warning == "", "a warning holds only as long as it is reported"


def test_progress_of_a_later_attempt_or_a_later_time_is_newer() -> None:
    first, second = (
        Progress(timesteps=9, attempt=1, last_updated_time=LATER),
        Progress(attempt=2, last_updated_time=NOW),
    )
    assert is_older(first, second)
    assert not is_older(second, first)
    assert is_older(replace(first, last_updated_time=NOW), first)
    assert is_older(replace(first, last_updated_time=None), first)
    assert not is_older(first, first)


def test_times_of_progress_are_compared_as_times_and_not_as_texts() -> None:
    whole, later = (
        Progress(last_updated_time="2026-01-01T00:00:01Z"),
        Progress(last_updated_time="2026-01-01T00:00:01.5Z"),
    )
    assert is_older(whole, later)
    assert not is_older(later, whole)


def test_newest_status_takes_what_follows_from_reports_and_nothing_else() -> None:
    mine = replace(TRAINED, restarts=2)
    other = after(replace(TRAINED, restarts=9), report(600, latest_model=MODEL, resumed_from=CHECKPOINT))
    merged = with_newer_progress(mine, other)
    assert merged == replace(
        mine, progress=other.progress, latest_model=MODEL, resumed_from=CHECKPOINT, timesteps_lost=other.timesteps_lost
    )
    assert with_newer_progress(other, mine) == other


def test_last_report_of_an_attempt_is_later_than_all_before() -> None:
    status = status_after_last_report(
        TRAINED, report(630, attempt=1, latest_model=MODEL), total=1000, now="2025-12-31T00:00:00Z"
    )
    assert (status.progress.timesteps, status.progress.progress_percentage) == (630, 63.0)
    assert status.progress.last_updated_time == "2026-01-01T00:00:01.000001Z", "whatever the clocks"
    assert status.latest_model == MODEL
    assert is_older(TRAINED.progress, status.progress)


def test_last_report_that_is_known_already_or_of_an_earlier_attempt_changes_nothing() -> None:
    known = status_after_last_report(TRAINED, report(630, attempt=1), total=1000, now=LATER)
    assert status_after_last_report(known, report(630, attempt=1), total=1000, now="2027-01-01T00:00:00Z") is known
    assert status_after_last_report(known, report(700, attempt=0), total=1000, now=LATER) is known
    assert status_after_last_report(known, None, total=1000, now=LATER) is known


@pytest.mark.parametrize(("timesteps", "resumed_from"), [(0, None), (400, CHECKPOINT)])
def test_attempt_that_did_not_come_to_train_takes_no_timesteps_back(
    timesteps: int, resumed_from: Artifact | None
) -> None:
    status = status_after_last_report(TRAINED, report(timesteps, resumed_from=resumed_from), total=1000, now=LATER)
    assert (status.progress.timesteps, status.progress.attempt) == (500, 2)
    assert (
        status_after_last_report(
            TRAINED, report(410, resumed_from=CHECKPOINT), total=1000, now=LATER
        ).progress.timesteps
        == 410
    )


def test_artifact_has_the_time_it_was_first_reported() -> None:
    first = with_artifact_times(after(TRAINED, report(510, latest_model=MODEL)), NOW)
    assert first.latest_model == replace(MODEL, time=NOW)
    again = with_artifact_times(after(first, report(520, latest_model=MODEL)), LATER)
    assert again.latest_model == first.latest_model
    other = with_artifact_times(after(first, report(520, latest_model=replace(MODEL, digest="sha256:n"))), LATER)
    assert other.latest_model == replace(MODEL, digest="sha256:n", time=LATER)


def test_condition_of_saving_keeps_its_time_until_it_changes() -> None:
    full = after(TRAINED, report(510, unsaved="no space"))
    expected = Condition(ConditionType.CHECKPOINTS_SAVED, ConditionStatus.FALSE, "DiskFull", "no space", LATER)
    assert full.conditions == (expected,)
    again = status_after_report(
        full, report(520, unsaved="none"), None, running=True, total=1000, now="2026-02-01T00:00:00Z"
    )
    assert again.conditions == (replace(expected, message="none"),)


def test_run_without_a_trainer_has_no_speed() -> None:
    status = after(TRAINED, report(510, fps=5.0, episode_reward_mean=1.0))
    rest = idle(status.progress)
    assert (rest.fps, rest.estimated_remaining_seconds, rest.activity) == (0, None, "")
    assert (rest.timesteps, rest.episode_reward_mean) == (510, 1.0)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"timesteps": -1}, "timesteps"),
        ({"attempt": -1}, "attempt"),
        ({"fps": -0.5}, "fps"),
        ({"fps": float("inf")}, "fps"),
        ({"episode_reward_mean": float("nan")}, "episode_reward_mean"),
    ],
)
def test_report_with_an_impossible_number_is_refused_by_the_name_of_the_field(
    fields: dict[str, Any], field: str
) -> None:
    said = replace(report(1), **fields)
    assert [error.field for error in report_errors(said)] == [field]


def test_negative_reward_is_possible() -> None:
    assert list(report_errors(report(1, episode_reward_mean=-5.0))) == []


def test_long_texts_of_a_report_are_cut() -> None:
    cut = truncate_texts(report(1, warning="w" * 2000, unsaved="u" * 10))
    assert (len(cut.warning), cut.unsaved, cut.activity) == (MAX_TEXT, "u" * 10, Activity.TRAINING)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"reward_mean": float("nan")}, "lesson.reward_mean: must be finite, got nan"),
        ({"episodes": -1}, "lesson.episodes: must not be negative, got -1"),
    ],
)
def test_lesson_that_no_trainer_can_mean_is_an_error_of_its_field(fields: dict[str, Any], says: str) -> None:
    lesson = LessonProgress("far", 1, 2)
    assert list(report_errors(report(1, lesson=lesson))) == []
    assert [str(each) for each in report_errors(report(1, lesson=replace(lesson, **fields)))] == [says]


def test_name_of_a_lesson_is_bounded() -> None:
    lesson = truncate_texts(report(1, lesson=LessonProgress("\x1b" + "x" * 5000, 1, 2))).lesson
    assert lesson is not None
    assert len(lesson.name) == MAX_TEXT
    assert lesson.name.isprintable()

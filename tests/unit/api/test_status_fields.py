"""A field of the status is written once: every shape that it passes through is derived from one list of names."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1 import training_progress_pb2 as progress_pb
from aisandbox_api.requests import progress_report
from aisandbox_api.responses import status_response
from aisandbox_crds.progress import REPORTED, status_after_report
from aisandbox_crds.status import Progress, ProgressReport, TrainingRunStatus
from aisandbox_crds.status_values import Activity, Artifact, CloningProgress, EarlyStop, LessonProgress
from aisandbox_crds.trainer_exit import TerminationMessage
from aisandbox_crds.trainingrun import TrainingRun
from aisandbox_trainer.runtime import progress as trainer
from aisandbox_wire.dataclass_messages import dataclass_of, message_fields

ROOT = Path(__file__).parents[3]
MADE = Artifact("models/1", 1, "sha256:1", 0.5)
FULL = ProgressReport(
    attempt=3,
    timesteps=600,
    activity=Activity.EVALUATING,
    fps=25.0,
    episode_reward_mean=-1.5,
    episode_length_mean=80.0,
    evaluation_reward_mean=2.5,
    latest_checkpoint=MADE,
    latest_model=MADE,
    best_model=MADE,
    resumed_from=MADE,
    warning="slow",
    unsaved="disk full",
    timesteps_dropped=40,
    early_stop=EarlyStop("RewardReached", "enough"),
    lesson=LessonProgress("ice", 2, 3, 10, 500, 1.5),
    started_from=MADE,
    trained_algorithm="MaskablePPO",
    cloning=CloningProgress(3, 10, 0.25, 20, 2000),
)
REPORT = {field.name for field in fields(ProgressReport)}
STATUS = {field.name for field in fields(TrainingRunStatus)}
PROGRESS = {field.name for field in fields(Progress)}


def test_example_has_a_value_for_every_field() -> None:
    for field in fields(ProgressReport):
        assert getattr(FULL, field.name) != field.default, field.name


def test_report_on_the_wire_has_the_fields_of_the_dataclass() -> None:
    wire = set(progress_pb.ReportRequest.DESCRIPTOR.fields_by_name)
    assert wire == REPORT | {"run_id", "timesteps_lost"}, "timesteps_lost is deprecated and not read"
    message = progress_pb.ReportRequest(run_id="r", **message_fields(progress_pb.ReportRequest, FULL))
    assert progress_report(progress_pb.ReportRequest.FromString(message.SerializeToString())) == FULL


def test_status_has_every_field_of_a_report() -> None:
    assert {"unsaved"} == REPORT - PROGRESS - STATUS, "which is the condition CheckpointsSaved"
    status = status_after_report(TrainingRunStatus(), FULL, None, running=True, total=1000, now="2026-01-01T00:00:00Z")
    for name in REPORT - {"unsaved"}:
        assert getattr(status.progress if name in PROGRESS else status, name) == getattr(FULL, name), name
    assert set(REPORTED) == (REPORT & STATUS) - {"attempt"} | {"progress", "timesteps_lost"}


def test_status_response_has_every_reported_field(run: TrainingRun) -> None:
    answered = set(pb.StatusResponse.DESCRIPTOR.fields_by_name)
    renamed = {"timesteps": "timesteps_done"}
    not_answered = {"attempt", "unsaved", "timesteps_dropped"}
    assert {renamed.get(name, name) for name in REPORT - not_answered} <= answered
    status = status_after_report(run.status, FULL, None, running=True, total=1000, now="2026-01-01T00:00:00Z")
    response = status_response(TrainingRun(run.name, run.spec, status))
    for name in REPORT - not_answered:
        value, expected = getattr(response, renamed.get(name, name)), getattr(FULL, name)
        if isinstance(expected, Artifact):
            value = Artifact(value.path, value.timesteps, value.digest, value.reward_mean)
        if isinstance(expected, EarlyStop):
            value = EarlyStop(value.reason, value.message)
        if isinstance(expected, LessonProgress | CloningProgress):
            value = dataclass_of(type(expected), value)
        if isinstance(expected, Activity):
            value = progress_pb.TrainerActivity.Name(value).removeprefix("TRAINER_ACTIVITY_")
            expected = expected.name
        assert value == expected, name


def test_trainer_reports_the_attribute_of_the_same_name() -> None:
    model: Any = SimpleNamespace(num_timesteps=600, ep_info_buffer=[{"r": -1.5, "l": 80.0}])
    state = trainer.ProgressTracker(model=model, plan=SimpleNamespace(progress=lambda: FULL.lesson))
    computed = {"attempt", "fps", "timesteps", "episode_reward_mean", "episode_length_mean", "lesson"}
    for name in REPORT - computed:
        setattr(state, name, getattr(FULL, name))
    assert state.report(attempt=3, fps=25.0) == FULL


def test_termination_message_repeats_the_report_but_for_what_ends_with_the_trainer() -> None:
    message = TerminationMessage.from_json(TerminationMessage.of(FULL, 75).to_json())
    same = {name for name in REPORT if getattr(message, name) == getattr(FULL, name)}
    at_work = {"activity", "fps", "warning", "unsaved"}
    assert REPORT - same == at_work | {"episode_length_mean", "evaluation_reward_mean"}
    assert message.exit_code == 75


@pytest.mark.parametrize("name", ["episode_length_mean", "estimated_remaining_seconds"])
def test_field_that_is_only_passed_on_stands_in_at_most_five_files(name: str) -> None:
    files = [
        path.relative_to(ROOT).as_posix()
        for pattern in ("*/src/**/*.py", "proto/aisandbox/v1/*.proto", "crds/*.yaml")
        for path in ROOT.glob(pattern)
        if not path.name.endswith(("_pb2.py", "_pb2_grpc.py"))
        and re.search(rf"\b{name}\b", path.read_text(encoding="utf-8"))
    ]
    assert len(files) <= 5, files

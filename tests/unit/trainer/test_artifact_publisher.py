"""What is published when: after a full disk, in the middle of lessons, and at an early end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import stable_baselines3 as sb3
from aisandbox_crds import Algorithm, Evaluation, Lesson, LessonEnd, StopWhen, TrainingRunSpec
from aisandbox_model_store import DiskFull, RunStore, Writer
from aisandbox_trainer.environments.in_process import vectorized
from aisandbox_trainer.lessons.plan import LessonPlan
from aisandbox_trainer.runtime.progress import ProgressTracker
from aisandbox_trainer.training import artifact_publisher
from aisandbox_trainer.training.artifact_publisher import ArtifactPublisher
from aisandbox_trainer.training.early_stopping import StopRules
from aisandbox_trainer.training.schedule import CheckpointSchedule
from stable_baselines3.common.logger import Logger


class Evaluated:
    """An evaluator that plays nothing: each evaluation has the next of these mean returns."""

    warning = ""

    def __init__(self, *returns: float) -> None:
        self._returns = iter(returns)

    def mean_reward(self, model: Any, environments: int) -> float:
        return next(self._returns)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(artifact_publisher, "policy_files", lambda model, _: {"policy": b"%d" % model.num_timesteps})
    made: Any = sb3.PPO("MlpPolicy", vectorized(lambda: gym.make("CartPole-v1"), 1), n_steps=8, batch_size=8)
    made.set_logger(Logger(None, []))
    made.num_timesteps = 10
    return made


def publisher(folder: Path, evaluator: Any = None, when: StopWhen | None = None) -> ArtifactPublisher:
    spec = TrainingRunSpec(
        Algorithm.PPO, 1000, checkpoint_every_timesteps=10, evaluation=Evaluation(10, 1) if evaluator else None
    )
    writer = RunStore(folder).run("run").claim(None)
    return ArtifactPublisher(
        spec, writer, ProgressTracker(), evaluator, None, CheckpointSchedule(10), stop_rules=StopRules(when)
    )


def fail_once(monkeypatch: pytest.MonkeyPatch, owner: type, method: str, path: Path) -> None:
    real, failures = getattr(owner, method), [DiskFull(path)]

    def call(*args: Any, **keywords: Any) -> Any:
        if failures:
            raise failures.pop()
        return real(*args, **keywords)

    monkeypatch.setattr(owner, method, call)


@pytest.mark.parametrize("step", ["publish_weights", "point"])
def test_model_that_a_full_disk_has_left_half_published_is_published_by_the_next_try(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    made = publisher(tmp_path)
    fail_once(monkeypatch, Writer, step, tmp_path)
    with pytest.raises(DiskFull):
        made.save_model(model)
    published = made.save_model(model)
    assert made.writer.run.model("latest").digest == published.digest
    assert made.writer.run.weights_of(published).timesteps == 10
    assert made.progress.latest_model is not None


def plan(lesson: int, monkeypatch: pytest.MonkeyPatch) -> LessonPlan:
    end = LessonEnd(reward=9.0, over_episodes=3)
    made = LessonPlan([Lesson("first", {}, end), Lesson("second", {}, end), Lesson("last", {})], 1)
    made.restore(type(made.state)(lesson=lesson))
    made.begin(1)
    monkeypatch.setattr(artifact_publisher, "plan_of", lambda _: made)
    return made


@pytest.mark.parametrize(("lesson", "stops"), [(0, False), (2, True)])
def test_evaluations_without_improvement_end_a_run_in_its_last_lesson_only(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lesson: int, stops: bool
) -> None:
    plan(lesson, monkeypatch)
    made = publisher(tmp_path, Evaluated(1, 0, 0), StopWhen(evaluations_without_improvement=2))
    for timesteps in (10, 20, 30):
        model.num_timesteps = timesteps
        made.evaluate_if_due(model)
    assert (made.stop_rules.stop is not None) == stops


def test_lesson_rates_models_by_as_many_episodes_as_its_mean_is_of_or_at_the_end(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lessons, made = plan(1, monkeypatch), publisher(tmp_path)
    rated = []
    for number, episode_return in enumerate((8.0, 1.0, 3.0), 1):
        lessons.after_step({0: episode_return})
        model.num_timesteps = 10 * number
        made.save_if_due(model)
        rated.append(made.progress.best_model and made.progress.best_model.reward_mean)
    assert rated == [None, None, 4.0]
    lessons.restore(type(lessons.state)(lesson=2, returns=(0.5,), playing=(2,), next=(2,)))
    model.num_timesteps = 40
    made.finish(model)
    assert made.progress.best_model is not None
    assert made.progress.best_model.reward_mean == 0.5


def test_early_stop_is_reported_once_a_checkpoint_has_it(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = publisher(tmp_path, Evaluated(1), StopWhen(evaluation_reward_mean=0))
    made.evaluate_if_due(model)
    assert made.stop_rules.stop is not None
    assert made.progress.early_stop is None
    fail_once(monkeypatch, ArtifactPublisher, "save_checkpoint", tmp_path)
    with pytest.raises(DiskFull):
        made.finish(model)
    assert made.progress.early_stop is None
    made.finish(model)
    assert made.progress.early_stop == made.stop_rules.stop

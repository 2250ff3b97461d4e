"""Runs with lessons: what a simulator is given, what the run reports, and a task that is learned with lessons only."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aisandbox_cli.lessons_file import read_lessons
from aisandbox_crds import (
    Algorithm,
    Environment,
    Evaluation,
    FakeEnvironment,
    GrpcEnvironment,
    GymnasiumEnvironment,
    Lesson,
    LessonEnd,
    StopWhen,
    TrainingRunSpec,
)
from aisandbox_crds.trainer_exit import TerminationMessage
from aisandbox_crds.trainer_start import TrainerStart
from aisandbox_environment import (
    AdapterSimulation,
    EnvironmentServer,
    FakeExternalEnvAdapter,
    Parameter,
    create_environment_server,
)
from aisandbox_trainer.run.attempt import run_attempt
from aisandbox_trainer.runtime.stop import Stop
from aisandbox_wire.dataclass_messages import dataclass_of
from google.protobuf.json_format import MessageToDict

EXAMPLE = Path(__file__).parents[2] / "examples" / "06-lessons"


class Recorder(FakeExternalEnvAdapter):
    """Short episodes that are rewarded by their parameter; remembers what each was given, and whether it ended."""

    parameters = (Parameter("bonus", 0, minimum=0, maximum=100, whole=True),)

    def __init__(self, given: list[tuple[int, int]], number: int = 0) -> None:
        super().__init__(episode_steps=4)
        self._given = given
        self._number = number
        self._bonus = 0
        self._first = True

    def reset(self, seed: int | None = None, parameters: Mapping[str, Any] | None = None) -> np.ndarray:
        self._bonus = parameters["bonus"] if parameters else -1
        self._given.append((self._number, self._bonus))
        return super().reset(seed)

    def step(self, action: Any) -> Any:
        observation, _, terminated, truncated, info = super().step(action)
        return observation, float(self._bonus), terminated, truncated, info


@pytest.fixture
def servers() -> Iterator[list[EnvironmentServer]]:
    started: list[EnvironmentServer] = []
    yield started
    for server in started:
        server.stop(0)


def serve(servers: list[EnvironmentServer], factory: Any) -> str:
    servers.append(create_environment_server(AdapterSimulation(factory)))
    servers[-1].start()
    return servers[-1].address


def attempt(folder: Path, environment: Environment, lessons: Sequence[Lesson], total: int, **fields: Any) -> Any:
    hyperparameters = fields.pop("hyperparameters", {"n_steps": "16", "batch_size": "32", "n_epochs": "1"})
    spec = TrainingRunSpec(
        algorithm=Algorithm.PPO,
        total_timesteps=total,
        environment=environment,
        seed=5,
        hyperparameters=hyperparameters,
        lessons=tuple(lessons),
        **fields,
    )
    end = folder / "end"
    start = TrainerStart("run", None, spec, folder, folder, termination_message_path=end)
    code = run_attempt(start, Stop())
    return code, TerminationMessage.from_json(end.read_text())


def test_simulator_is_given_the_parameters_of_each_episode(tmp_path: Path, servers: list[EnvironmentServer]) -> None:
    given: list[tuple[int, int]] = []
    numbers = itertools.count()
    one, other = (serve(servers, lambda: Recorder(given, next(numbers))) for _ in range(2))
    lessons = (
        Lesson("first", {"bonus": {"uniform": [1, 9]}}, LessonEnd(episodes=6)),
        Lesson("second", {"bonus": {"choice": [20, 30]}}, LessonEnd(reward=100, over_episodes=4, timesteps=64)),
        Lesson("third", {"bonus": 50}),
    )
    environment = GrpcEnvironment(f"{one},{other}", 4)
    code, message = attempt(tmp_path, environment, lessons, 192, evaluation=Evaluation(96, 2))
    assert code == 0
    environments = {number: [bonus for each, bonus in given if each == number] for number, _ in given}
    training = [found for found in environments.values() if found[0] < 10]
    assert len(training) == 4
    for found in training:
        # The next episodes are chosen one episode ahead.
        assert [bonus for bonus in found if bonus == 50] == found[-found.count(50) :]
        lesson = [1 if bonus < 10 else 2 if bonus < 50 else 3 for bonus in found]
        assert lesson == sorted(lesson)
        assert set(lesson) == {1, 2, 3}
    evaluated = [found for found in environments.values() if found[0] >= 10]
    assert {bonus for found in evaluated for bonus in found} == {50}, "evaluations use the last lesson"
    assert message.evaluation_reward_mean is None  # not repeated in this message
    assert message.best_model is not None
    assert message.best_model.reward_mean == 200.0
    assert message.lesson is not None
    assert (message.lesson.name, message.lesson.number, message.lesson.reward_mean) == ("third", 3, 200.0)


def test_best_model_is_of_the_newest_lesson(tmp_path: Path, servers: list[EnvironmentServer]) -> None:
    lessons = (
        Lesson("rich", {"bonus": 100}, LessonEnd(timesteps=64)),
        Lesson("poor", {"bonus": 1}),
    )
    address = serve(servers, lambda: Recorder([]))
    _, message = attempt(tmp_path, GrpcEnvironment(address, 2), lessons, 160, checkpoint_every_timesteps=32)
    assert message.best_model is not None
    assert message.best_model.timesteps > 64
    assert message.best_model.reward_mean == 4.0


def test_mean_return_of_training_ends_a_run_in_the_last_lesson_only(
    tmp_path: Path, servers: list[EnvironmentServer]
) -> None:
    lessons = (Lesson("rich", {"bonus": 100}, LessonEnd(timesteps=96)), Lesson("poor", {"bonus": 1}))
    address = serve(servers, lambda: Recorder([]))
    settings = {"n_steps": "16", "batch_size": "32", "n_epochs": "1", "stats_window_size": "8"}
    fields: dict[str, Any] = {"hyperparameters": settings, "stop_when": StopWhen(episode_reward_mean=4.0)}
    _, message = attempt(tmp_path, GrpcEnvironment(address, 2), lessons, 320, **fields)
    assert message.early_stop is not None
    assert 96 < message.timesteps < 192


@pytest.mark.parametrize(
    ("environment", "parameters", "says"),
    [
        (FakeEnvironment(), {"start": 2}, "must be a finite number of at least 0 and at most 1, got 2"),
        (
            FakeEnvironment(),
            {"gravity": 3},
            "lessons[0].parameters.gravity: is unknown; the environment declares start",
        ),
        (GymnasiumEnvironment("CartPole-v1"), {}, "lessons: need parameters, and the environment declares none"),
    ],
)
def test_lessons_that_do_not_fit_end_the_run_for_good(
    tmp_path: Path, environment: Environment, parameters: dict[str, Any], says: str
) -> None:
    code, message = attempt(tmp_path, environment, [Lesson("only", parameters)], 64)
    assert code == 78
    assert message.failure is not None
    assert message.failure.reason == "InvalidRun"
    assert says in message.failure.message


@pytest.mark.slow
def test_task_that_chance_does_not_solve_is_learned_with_lessons(
    tmp_path: Path, servers: list[EnvironmentServer]
) -> None:
    spec = importlib.util.spec_from_file_location("lessons_example", EXAMPLE / "example.py")
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    lessons = []
    for each in read_lessons(EXAMPLE / "lessons.yaml"):
        until = dataclass_of(LessonEnd, each.until) if each.HasField("until") else None
        lessons.append(Lesson(each.name, MessageToDict(each.parameters), until))
    learned = {}
    for name, taught, total in (("with", lessons, 16_000), ("without", [], 8_000)):
        folder = tmp_path / name
        folder.mkdir()
        environment = GrpcEnvironment(serve(servers, example.Lock), 4)
        settings = {"n_steps": "128", "learning_rate": "1e-3", "policy_kwargs": "dict(net_arch=[32])"}
        _, message = attempt(
            folder, environment, taught, total, hyperparameters=settings, evaluation=Evaluation(total, 5)
        )
        assert message.best_model is not None
        learned[name] = message.best_model.reward_mean
    assert learned == {"with": 1.0, "without": 0.0}

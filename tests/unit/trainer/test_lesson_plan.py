"""Which parameters the episodes of a run get, and when the next lesson begins."""

from __future__ import annotations

from typing import Any

import pytest
from aisandbox_crds import Lesson, LessonEnd
from aisandbox_environment import Parameter
from aisandbox_trainer.lessons.plan import LessonPlan

DECLARED = (
    Parameter("distance", 10.0, minimum=1.0, maximum=30.0),
    Parameter("walls", 2, minimum=0, whole=True),
    Parameter("floor", "stone", choices=("stone", "ice")),
)


def plan(*ends: LessonEnd, parameters: Any = None, seed: int = 3) -> LessonPlan:
    names = "abc"
    lessons = [Lesson(names[i], parameters or {"distance": i + 1}, end) for i, end in enumerate(ends)]
    return LessonPlan([*lessons, Lesson("last", {"distance": 30})], seed, DECLARED)


def test_draws_follow_from_the_seed_and_the_number_of_the_episode() -> None:
    said = {
        "distance": {"log_uniform": [1, 30]},
        "walls": {"uniform": [0, 3]},
        "floor": {"choice": ["stone", "ice"]},
    }
    one, other = (plan(LessonEnd(episodes=10**6), parameters=said) for _ in range(2))
    drawn = one.begin(100) + [one.draw_next(i) for i in range(100)]
    assert other.begin(200) == drawn
    assert plan(LessonEnd(episodes=9), parameters=said, seed=4).begin(200) != drawn
    assert {each["walls"] for each in drawn} == {0, 1, 2, 3}
    assert {each["floor"] for each in drawn} == {"stone", "ice"}
    below = sum(each["distance"] < 30**0.5 for each in drawn)
    assert 60 < below < 140, "the logarithm is uniform"
    assert all(1 <= each["distance"] <= 30 for each in drawn)  # type: ignore[operator]


def test_parameter_that_a_lesson_does_not_name_has_its_default() -> None:
    assert plan(LessonEnd(episodes=1)).begin(1) == [{"distance": 1.0, "walls": 2, "floor": "stone"}]


def play(plan: LessonPlan, *ended: dict[int, float]) -> list[list[int]]:
    """What is drawn again after each step, by environments; draws it."""
    found = []
    for each in ended:
        environments = list(plan.after_step(each))
        for environment in environments:
            plan.draw_next(environment)
        found.append(environments)
    return found


def begun(plan: LessonPlan, environments: int) -> LessonPlan:
    plan.begin(environments)
    for i in range(environments):
        plan.draw_next(i)
    return plan


def test_lesson_ends_by_the_mean_of_so_many_episodes() -> None:
    made = begun(plan(LessonEnd(reward=1.0, over_episodes=2)), 2)
    assert play(made, {}, {0: 1.0}, {0: 0.5}, {1: 1.5}) == [[], [0], [0], [0, 1]]
    assert made.is_last
    assert made.progress().name == "last"


def test_lesson_ends_by_episodes_and_by_steps() -> None:
    made = begun(plan(LessonEnd(episodes=2), LessonEnd(timesteps=6)), 2)
    assert play(made, {0: 1.0}, {1: 1.0}) == [[0], [0, 1]]
    assert play(made, {}, {}, {}) == [[], [], [0, 1]]
    assert (made.progress().number, made.progress().count) == (3, 3)


def test_episode_that_began_in_the_lesson_before_does_not_count() -> None:
    made = begun(plan(LessonEnd(episodes=1), LessonEnd(episodes=2)), 2)
    play(made, {0: 1.0})
    assert made.lesson == 1
    # Environment 0 had begun its next episode with the parameters of the first lesson, and 1 still plays its first one.
    play(made, {0: 7.0, 1: 7.0})
    assert (made.progress().episodes, made.returns) == (0, [])
    play(made, {0: 5.0})
    assert (made.progress().episodes, made.progress().reward_mean) == (1, 5.0)
    play(made, {1: 5.0})
    assert made.is_last


def test_last_lesson_lasts() -> None:
    made = begun(LessonPlan([Lesson("only", {})], 1, DECLARED), 1)
    assert play(made, *[{0: 1.0}] * 200) == [[0]] * 200
    assert len(made.returns) == 100


@pytest.mark.parametrize("after", [0, 3, 11])
def test_restored_plan_goes_on_alike(after: int) -> None:
    said = {"distance": {"uniform": [1, 30]}}
    ends = LessonEnd(reward=2.0, over_episodes=3), LessonEnd(timesteps=20)

    def steps(made: LessonPlan, first: int) -> list[Any]:
        seen = []
        for step in range(first, 40):
            ended = {step % 2: float(step)} if step % 3 == 0 else {}
            seen.append([(i, made.draw_next(i)) for i in made.after_step(ended)])
        return seen

    one = begun(plan(*ends, parameters=said), 2)
    everything = steps(one, 0)
    other = begun(plan(*ends, parameters=said), 2)
    for step in range(after):
        for i in other.after_step({step % 2: float(step)} if step % 3 == 0 else {}):
            other.draw_next(i)
    restored = plan(*ends, parameters=said)
    restored.restore(other.state)
    assert steps(restored, after) == everything[after:]
    assert restored.state == one.state
    assert restored.is_last

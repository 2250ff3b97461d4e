"""Which lessons a run may have, and whether they fit what an environment declares."""

from __future__ import annotations

from typing import Any

import pytest
from aisandbox_crds import InvalidRun, parameter_errors, read_draw, spec_from_json, spec_to_json, validate_spec
from aisandbox_environment import Parameter

DECLARED = (
    Parameter("distance", 10.0, minimum=1.0, maximum=30.0),
    Parameter("walls", 0, minimum=0, maximum=8, whole=True),
    Parameter("floor", "stone", choices=("stone", "ice")),
    Parameter("wind", False),
)
FIRST: dict[str, Any] = {
    "name": "near",
    "parameters": {"distance": {"uniform": [1, 5]}, "wind": True},
    "until": {"reward": 0.9, "overEpisodes": 50},
}
LAST: dict[str, Any] = {"name": "far", "parameters": {"distance": 30, "floor": {"choice": ["stone", "ice"]}}}


def spec_of(*lessons: dict[str, Any], total: int = 100_000) -> Any:
    return spec_from_json({"algorithm": "PPO", "totalTimesteps": total, "lessons": list(lessons)})


def errors_of(*lessons: dict[str, Any], total: int = 100_000) -> str:
    with pytest.raises(InvalidRun) as refused:
        validate_spec(spec_of(*lessons, total=total))
    return str(refused.value)


def until(**fields: Any) -> dict[str, Any]:
    return {"name": "near", "until": fields}


def test_lessons_are_accepted_and_written_as_they_were_read() -> None:
    spec = spec_of(FIRST, LAST)
    validate_spec(spec)
    assert spec_to_json(spec)["lessons"] == [FIRST, LAST]
    assert list(parameter_errors(spec.lessons, DECLARED, "the simulator")) == []
    assert [lesson.until.window for lesson in spec.lessons if lesson.until] == [50]


@pytest.mark.parametrize(
    ("lessons", "says"),
    [
        (({**FIRST, "name": ""}, LAST), "lessons[0].name: must be 1 to 64"),
        ((FIRST, {**LAST, "name": "near"}), "lessons[1].name: is 'near', which an earlier lesson has too"),
        (({"name": "near"}, LAST), "lessons[0].until: is required"),
        ((FIRST, {**LAST, "until": {"episodes": 1}}), "lessons[1].until: is of the last lesson"),
        ((until(), LAST), "lessons[0].until: must have at least one of reward, episodes and timesteps"),
        ((until(episodes=0), LAST), "lessons[0].until.episodes: must be a whole number from 1"),
        ((until(timesteps=10**12 + 1), LAST), "lessons[0].until.timesteps: must be a whole number from 1"),
        ((until(reward=1, overEpisodes=10_001), LAST), "lessons[0].until.over_episodes: must be a whole number"),
        ((until(episodes=5, overEpisodes=5), LAST), "lessons[0].until.over_episodes: says how many episodes"),
        ((until(reward=1, episodes=99), LAST), "lessons[0].until.reward: can never be reached"),
        ((until(timesteps=100_000), LAST), "lessons[0].until: can never be reached"),
        (({**FIRST, "parameters": {"distance": [1, 5]}}, LAST), "lessons[0].parameters.distance: must be a number"),
        (({**FIRST, "parameters": {"distance": {"uniform": [5, 1]}}}, LAST), "two numbers, the lower one first"),
        (({**FIRST, "parameters": {"distance": {"uniform": ["a", "b"]}}}, LAST), "two numbers"),
        (({**FIRST, "parameters": {"distance": {"log_uniform": [0, 1]}}}, LAST), "two numbers above 0"),
        (({**FIRST, "parameters": {"distance": {"uniform": [-1e308, 1e308]}}}, LAST), "difference is a finite number"),
        (({**FIRST, "parameters": {"distance": {"choice": []}}}, LAST), "must have 1 to 100 values, got {"),
        (({**FIRST, "parameters": {"distance": {"normal": [0, 1]}}}, LAST), "must be a number, a text"),
        (({**FIRST, "parameters": {"distance": "x" * 1025}}, LAST), "lessons[0].parameters.distance: must be"),
        (({**FIRST, "parameters": {f"p{i}": 1 for i in range(65)}}, LAST), "has 65 entries; at most 64"),
    ],
)
def test_lessons_that_break_a_rule_are_refused_by_their_field(lessons: tuple[dict[str, Any], ...], says: str) -> None:
    assert says in errors_of(*lessons)


def test_too_many_lessons_are_refused_without_a_look_at_each() -> None:
    assert errors_of(*[FIRST] * 33) == "lessons: has 33 entries; at most 32"


def test_lesson_that_the_steps_of_the_run_cannot_reach_is_refused() -> None:
    lessons = until(timesteps=300), {"name": "middle", "until": {"reward": 1.0, "overEpisodes": 200}}, LAST
    validate_spec(spec_of(*lessons, total=501))
    assert "lessons[1].until: can never be reached: the lessons up to here take 500" in errors_of(*lessons, total=500)


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"speed": 3}, "lessons[0].parameters.speed: is unknown; the simulator declares distance, walls, floor"),
        (
            {"distance": 31},
            "lessons[0].parameters.distance: must be a finite number of at least 1 and at most 30, got 31",
        ),
        ({"distance": {"uniform": [0.5, 2]}}, "got 0.5; declared by the simulator"),
        ({"distance": "far"}, "got 'far'"),
        ({"distance": True}, "got True"),
        ({"walls": 1.5}, "must be a whole number of at least 0 and at most 8, got 1.5"),
        ({"walls": {"log_uniform": [1, 8]}}, "log_uniform does not give: use uniform or choice"),
        ({"floor": {"choice": ["ice", "sand"]}}, "must be one of stone, ice, got 'sand'"),
        ({"wind": 1}, "must be true or false, got 1"),
    ],
)
def test_lessons_that_do_not_fit_the_declaration_are_refused(parameters: dict[str, Any], says: str) -> None:
    (error,) = parameter_errors(spec_of({"name": "only", "parameters": parameters}).lessons, DECLARED, "the simulator")
    assert says in str(error)


def test_environment_without_parameters_is_refused_for_lessons_only() -> None:
    (error,) = parameter_errors(spec_of({"name": "only"}).lessons, (), "CartPole-v1")
    assert str(error) == "lessons: need parameters, and CartPole-v1 declares none"
    assert list(parameter_errors((), (), "CartPole-v1")) == []


def test_value_that_is_written_as_a_text_of_another_kind_is_a_constant() -> None:
    draw = read_draw("uniform")
    assert not isinstance(draw, str)
    assert (draw.kind, draw.values) == ("constant", ("uniform",))

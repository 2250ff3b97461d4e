from __future__ import annotations

import pytest
from aisandbox_api.environment_modules import check_environment_module
from aisandbox_api.errors import InvalidRequest
from aisandbox_crds import Algorithm, GymnasiumEnvironment, TrainingRunSpec


@pytest.mark.parametrize(
    ("id_", "patterns", "is_allowed"),
    [
        ("CartPole-v1", (), True),
        ("ALE/Pong-v5", (), True),
        ("my_envs:Own-v0", (), False),
        ("my_envs:Own-v0", ("*",), True),
        ("my_envs:Own-v0", ("my_envs",), True),
        ("my_envs.hidden:Own-v0", ("my_envs",), False),
        ("my_envs.hidden:Own-v0", ("my_envs.*",), True),
        ("os:Own-v0", ("my_envs", "lab.*"), False),
    ],
)
def test_module_of_a_gymnasium_id_is_allowed_by_the_setting(
    id_: str, patterns: tuple[str, ...], is_allowed: bool
) -> None:
    spec = TrainingRunSpec(Algorithm.PPO, 1000, GymnasiumEnvironment(id_))
    if is_allowed:
        check_environment_module(spec, patterns)
        return
    with pytest.raises(InvalidRequest, match=r"environment\.gymnasium\.id: .*ENVIRONMENT_MODULES"):
        check_environment_module(spec, patterns)

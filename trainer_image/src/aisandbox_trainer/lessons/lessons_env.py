"""Gives the environments of a run the parameters of its lessons, at every reset and for every episode after.

Environments begin their next episode by themselves (same-step autoreset), so each is given the parameters of the
episode after the one in progress: by ``env_method``, with ``set_parameters`` of each. Must not know how they are
chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aisandbox_crds import FieldError, InvalidRun, parameter_errors
from aisandbox_environment import Parameter, ParameterValue
from aisandbox_wire import WireError
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper

from aisandbox_trainer.lessons.plan import LessonPlan


class LessonsEnv(VecEnvWrapper):
    """Directly around bare environments. The plan outlives it.

    Raises InvalidRun for lessons that do not fit what the environments declare.
    """

    def __init__(self, venv: VecEnv, plan: LessonPlan) -> None:
        super().__init__(venv)
        declared = declared_parameters(venv)
        if errors := list(parameter_errors(plan.lessons, declared, "the environment")):
            raise InvalidRun(errors)
        plan.parameters = tuple(declared)
        self.plan = plan

    def reset(self) -> Any:
        """Starts episodes of the lesson in all environments."""
        for environment, values in enumerate(self.plan.begin(self.num_envs)):
            self._set(environment, values)
        observations = self.venv.reset()
        for environment in range(self.num_envs):
            self._set(environment, self.plan.draw_next(environment))
        return observations

    def step_wait(self) -> Any:
        """As of the environments; those whose next parameters are other ones are given them."""
        result = self.venv.step_wait()
        ended = {i: float(info["episode"]["r"]) for i, info in enumerate(result[3]) if "episode" in info}
        for environment in self.plan.after_step(ended):
            self._set(environment, self.plan.draw_next(environment))
        return result

    def _set(self, environment: int, values: Mapping[str, ParameterValue]) -> None:
        self.venv.env_method("set_parameters", values, indices=environment)


def plan_of(env: VecEnv | None) -> LessonPlan | None:
    """The plan of a model's environments; None without lessons."""
    while isinstance(env, VecEnvWrapper):
        if isinstance(env, LessonsEnv):
            return env.plan
        env = env.venv
    return None


def declared_parameters(bare: VecEnv) -> tuple[Parameter, ...]:
    """What bare environments declare. Raises InvalidRun for declarations of Gymnasium that break a rule."""
    try:
        found: tuple[Parameter, ...] = bare.env_method("declared_parameters", indices=0)[0]
    except WireError as error:
        raise InvalidRun([FieldError("lessons", f"the environment declares its parameters wrongly: {error}")]) from None
    return found

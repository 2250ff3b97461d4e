"""Evaluation episodes: the mean reward of the policy now, in separate environments.

Owns that an evaluation does not change training: generators, statistics and environments. Must not know what follows
from the result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import structlog
from aisandbox_crds import Evaluation
from aisandbox_environment import TransientSimulatorError
from aisandbox_wire import same_form, space_to_proto
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.evaluation import evaluate_policy as evaluate_masked_policy
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecEnv, sync_envs_normalization, unwrap_vec_normalize

from aisandbox_trainer import _sb3_internals
from aisandbox_trainer.checkpoints.random_state import RandomState
from aisandbox_trainer.environments.factory import Environments, declares_masks, env_of, space_adapter_of
from aisandbox_trainer.environments.pool_sessions import TooFewEnvironments
from aisandbox_trainer.errors import SimulatorChanged

log = structlog.get_logger(__name__)

SEED_DISTANCE = 10_007
"""Evaluation seeds are the run's plus this, and the same each time, so that two evaluations can be compared."""


class Evaluator:
    """Plays evaluation episodes of one run, those of its last lesson.

    The environments are opened for each evaluation, so that a session of the simulator is occupied only that long.
    """

    def __init__(
        self,
        environments: Environments,
        evaluation: Evaluation,
        seed: int,
        check: Callable[[], None],
        episode_steps: float = 10_000.0,
    ) -> None:
        self._environments = environments
        self._evaluation = evaluation
        self._seed = seed
        self._check = check
        self._episode_steps = episode_steps
        self.warning = ""
        self._too_long = ""

    def mean_reward(self, model: BaseAlgorithm, number: int) -> float | None:
        """The mean undiscounted return of the episodes, played on up to ``number`` environments at a time.

        None if the simulator has no free session or fails: a failed evaluation must not end the run. ``warning`` then
        says so; or that the episodes did not end, and their returns so far were counted. Raises what ``check`` raises
        (it is called each step) and the simulator's permanent errors, SimulatorChanged.
        """
        self.warning = ""
        before = RandomState.capture(model.action_space)  # DQN explores by drawing from the space
        try:
            for count in dict.fromkeys((min(number, self._evaluation.episodes), 1)):
                try:
                    mean = self._play(model, count)
                    self.warning = self._too_long
                    return mean
                except TransientSimulatorError as error:
                    log.warning("evaluation aborted", environments=count, error=str(error))
                    self.warning = f"the last evaluation was not possible: {error}"
                    if isinstance(error, TooFewEnvironments):
                        break
        finally:
            before.restore(model.action_space)
        return None

    def _play(self, model: BaseAlgorithm, count: int) -> float:
        bare = self._environments.evaluation(count)
        try:
            _check_same(env_of(model), bare)
            env = self._prepared(bare, model)
        except BaseException:
            bare.close()
            raise
        limit = _StepLimit(self._evaluation.episodes * self._longest(model), self._check)
        self._too_long = ""
        evaluate: Callable[..., Any] = evaluate_masked_policy if isinstance(model, MaskablePPO) else evaluate_policy
        try:
            rewards, _ = evaluate(
                model,
                env,
                n_eval_episodes=self._evaluation.episodes,
                deterministic=not self._evaluation.stochastic,
                callback=limit,
                return_episode_rewards=True,
            )
        except _LimitReached as reached:
            rewards = reached.returns
            self._too_long = (
                f"the last evaluation was ended after {limit.steps} steps, because its episodes did not end: "
                f"{reached.finished} of {self._evaluation.episodes} had ended, and the returns so far were counted "
                "(EVALUATION_EPISODE_STEPS; a time limit in the environment ends its episodes)"
            )
            log.warning("evaluation ended before its episodes", steps=limit.steps, finished=reached.finished)
        finally:
            env.close()
        return float(np.mean(rewards))

    def _longest(self, model: BaseAlgorithm) -> float:
        """The steps that an episode may have on average."""
        lengths = [float(episode["l"]) for episode in model.ep_info_buffer or ()]
        return max(self._episode_steps, 10 * max(lengths, default=0.0))

    def _prepared(self, bare: VecEnv, model: BaseAlgorithm) -> VecEnv:
        seed = self._seed + SEED_DISTANCE
        bare.seed(seed)
        env = _sb3_internals.wrap_for(model, self._environments.wrap_evaluation(bare, seed))
        if (normalize := unwrap_vec_normalize(env)) is not None:
            normalize.training = False
            normalize.norm_reward = False
            sync_envs_normalization(env_of(model), env)
        return env


def _check_same(training: VecEnv, evaluation: VecEnv) -> None:
    """Raises SimulatorChanged where the policy cannot act in the environments of evaluation."""
    own, found = space_adapter_of(training), space_adapter_of(evaluation)
    for what, one, other in (
        ("observations", own.inner_observation_space, found.inner_observation_space),
        ("actions", own.inner_action_space, found.inner_action_space),
    ):
        if not same_form(space_to_proto(one), space_to_proto(other)):
            raise SimulatorChanged(f"{what} are {other} in evaluation, and {one} in training")
    if (masked := declares_masks(evaluation)) != declares_masks(training):
        where = "evaluation" if masked else "training"
        raise SimulatorChanged(f"action masks are declared in {where} only")


class _LimitReached(Exception):
    """The evaluation has taken too many steps. ``returns``: of the ``finished`` episodes and of those in progress."""

    def __init__(self, returns: list[float], finished: int) -> None:
        super().__init__()
        self.returns = returns
        self.finished = finished


class _StepLimit:
    """A callback of ``evaluate_policy``, once for each environment and step. Raises _LimitReached, what ``check`` does.

    It reads these variables of ``evaluate_policy`` (stable-baselines3 and sb3-contrib 2.9): ``episode_rewards`` and
    ``current_rewards``, the undiscounted returns of finished episodes and, by environment, of those in progress.
    """

    def __init__(self, limit: float, check: Callable[[], None]) -> None:
        self._limit = limit
        self._check = check
        self.steps = 0

    def __call__(self, variables: dict[str, Any], _globals: dict[str, Any]) -> None:
        self._check()
        self.steps += 1
        if self.steps >= self._limit:
            finished = [float(each) for each in variables["episode_rewards"]]
            in_progress = [float(each) for each in variables["current_rewards"]]
            raise _LimitReached(finished + in_progress, len(finished))

"""Evaluation episodes: the mean reward of the policy now, in separate environments.

Owns that an evaluation does not change training: generators, statistics and environments. Must not know what follows
from the result.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import structlog
from aisandbox_crds.spec import Evaluation
from aisandbox_environment.errors import TransientSimulatorError
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecEnv, sync_envs_normalization, unwrap_vec_normalize

from aisandbox_trainer import _sb3_internals
from aisandbox_trainer.checkpoints.random_state import RandomState
from aisandbox_trainer.environments.factory import Environments, env_of

log = structlog.get_logger(__name__)

SEED_DISTANCE = 10_007
"""Evaluation seeds are the run's plus this, and the same each time, so that two evaluations can be compared."""


class Evaluator:
    """Plays evaluation episodes of one run.

    The environments are opened for each evaluation, so that a session of the simulator is occupied only that long.
    """

    def __init__(
        self, environments: Environments, evaluation: Evaluation, seed: int, check: Callable[[], None]
    ) -> None:
        self._environments = environments
        self._evaluation = evaluation
        self._seed = seed
        self._check = check

    def mean_reward(self, model: BaseAlgorithm, number: int) -> float | None:
        """The mean undiscounted return of the episodes, played on up to ``number`` environments at a time.

        None if the simulator has no free session or fails: a failed evaluation must not end the run. Raises what
        ``check`` raises (it is called each step) and the simulator's permanent errors.
        """
        before = RandomState.capture(model.action_space)  # DQN explores by drawing from the space
        try:
            for count in dict.fromkeys((min(number, self._evaluation.episodes), 1)):
                try:
                    return self._play(model, count)
                except TransientSimulatorError as error:
                    log.warning("evaluation aborted", environments=count, error=str(error))
        finally:
            before.restore(model.action_space)
        return None

    def _play(self, model: BaseAlgorithm, count: int) -> float:
        env = self._prepared(self._environments.evaluation(count), model)
        try:
            rewards, _ = evaluate_policy(
                model,
                env,
                n_eval_episodes=self._evaluation.episodes,
                deterministic=not self._evaluation.stochastic,
                callback=lambda _locals, _globals: self._check(),
                return_episode_rewards=True,
            )
        finally:
            env.close()
        return float(np.mean(rewards))

    def _prepared(self, bare: VecEnv, model: BaseAlgorithm) -> VecEnv:
        bare.seed(self._seed + SEED_DISTANCE)
        env = _sb3_internals.wrap_for(model, self._environments.wrap(bare))
        if (normalize := unwrap_vec_normalize(env)) is not None:
            normalize.training = False
            normalize.norm_reward = False
            sync_envs_normalization(env_of(model), env)
        return env

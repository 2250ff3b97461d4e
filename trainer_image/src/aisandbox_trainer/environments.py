"""From the spec of a run to the VecEnvs it is trained and evaluated on.

Owns the choice of the kind and number of environments, and the order of the wrappers: normalisation first, then frame
stacking (as RL Zoo), then SB3's own transposition of images. Must not know algorithms.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from stable_baselines3.common.vec_env import VecEnv, VecFrameStack, VecNormalize

from aisandbox_crds.hyperparameters import Hyperparameters, Normalize
from aisandbox_crds.spec import FakeEnvironment, GrpcEnvironment, GymnasiumEnvironment, TrainingRunSpec
from aisandbox_environment import FakeExternalEnvAdapter
from aisandbox_trainer.connection import open_sessions
from aisandbox_trainer.errors import InvalidHyperparameter
from aisandbox_trainer.grpc_vec_env import GrpcVecEnv
from aisandbox_trainer.in_process import AdapterEnv, PresentedEnv, gymnasium_env, vectorized
from aisandbox_trainer.presentation import Presentation
from aisandbox_trainer.stopping import Stop


@dataclass(frozen=True, slots=True)
class Environments:
    """Makes the environments of one run."""

    spec: TrainingRunSpec
    hyperparameters: Hyperparameters
    run_id: str
    stop: Stop

    def training(self) -> VecEnv:
        """The bare environments to learn from. Raises what reaching a simulator raises, UnknownEnvironment."""
        return self._make(self._number(), evaluation=False)

    def evaluation(self, number: int) -> VecEnv:
        """Bare environments apart from those of training."""
        return self._make(number, evaluation=True)

    def wrap(self, env: VecEnv, normalization: Path | None = None) -> VecEnv:
        """The wrappers the hyperparameters ask for; ``normalization`` is a stored VecNormalize to go on with."""
        normalize, stacked = self.hyperparameters.normalize, self.hyperparameters.frame_stack
        try:
            if normalize is not None and normalization is not None:
                env = VecNormalize.load(str(normalization), env)
            elif normalize is not None:
                env = VecNormalize(env, **self._normalization(normalize))
            return VecFrameStack(env, stacked) if stacked is not None and stacked > 1 else env
        except (ValueError, AssertionError) as error:
            raise InvalidHyperparameter(f"hyperparameters.normalize or frame_stack: {error}") from error

    def _normalization(self, normalize: Normalize) -> dict[str, Any]:
        gamma = self.hyperparameters.keywords.get("gamma", 0.99)
        return {
            "norm_obs": normalize.norm_obs,
            "norm_reward": normalize.norm_reward,
            "clip_obs": normalize.clip_obs,
            "clip_reward": normalize.clip_reward,
            "epsilon": normalize.epsilon,
            "gamma": normalize.gamma if normalize.gamma is not None else gamma,
        }

    def _number(self) -> int:
        environment = self.spec.environment
        if isinstance(environment, GrpcEnvironment):
            return environment.environments or self.hyperparameters.n_envs or 0
        return self.hyperparameters.n_envs or 1

    def _make(self, number: int, *, evaluation: bool) -> VecEnv:
        environment = self.spec.environment
        if isinstance(environment, GrpcEnvironment):
            connect = partial(open_sessions, environment, number, run_id=self.run_id, evaluation=evaluation)
            return GrpcVecEnv(connect, self.stop)
        if isinstance(environment, GymnasiumEnvironment):
            return vectorized(partial(gymnasium_env, environment.id, environment.kwargs), number)
        assert isinstance(environment, FakeEnvironment)
        return vectorized(lambda: AdapterEnv(FakeExternalEnvAdapter()), number)


def presentation_of(env: VecEnv) -> Presentation:
    """How the environments' own spaces are shown: what an exported policy must undo."""
    bare = env.unwrapped
    if isinstance(bare, GrpcVecEnv):
        return bare.presentation
    (first,) = bare.get_attr("presentation", 0)
    assert isinstance(first, Presentation), PresentedEnv
    return first

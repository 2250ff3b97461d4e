"""From the spec of a run to the VecEnvs it is trained and evaluated on.

Owns the choice of the kind and number of environments, and the order of the wrappers: frames are stacked first and
normalised then, so that a server of the policy stacks what the simulator sends; images are transposed last by SB3
itself, but for DQN before they are normalised. Must not know how a model is made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import cast

from aisandbox_crds import (
    ALGORITHMS,
    FieldError,
    GrpcEnvironment,
    GymnasiumEnvironment,
    Hyperparameters,
    InvalidRun,
    PoolEnvironment,
    TrainingRunSpec,
    effective_environments,
    effective_pool_range,
)
from aisandbox_environment import FakeExternalEnvAdapter, SimulatorSession, Timeouts, expand_addresses
from aisandbox_wire import MASKS_METHOD
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from aisandbox_trainer import _sb3_internals
from aisandbox_trainer.environments.frame_stack import FrameStack
from aisandbox_trainer.environments.grpc_vec_env import GrpcVecEnv
from aisandbox_trainer.environments.in_process import AdapterEnv, gymnasium_env, vectorized
from aisandbox_trainer.environments.normalization import normalized, normalizes_images
from aisandbox_trainer.environments.pool_sessions import PoolSessions, PoolTarget, evaluation_session
from aisandbox_trainer.environments.pool_vec_env import PoolVecEnv
from aisandbox_trainer.environments.sessions import open_sessions
from aisandbox_trainer.environments.slow_replies import SlowReplies
from aisandbox_trainer.environments.space_adapter import SpaceAdapter
from aisandbox_trainer.errors import InvalidHyperparameter
from aisandbox_trainer.lessons.lessons_env import LessonsEnv
from aisandbox_trainer.lessons.plan import LessonPlan
from aisandbox_trainer.runtime.service import Service
from aisandbox_trainer.runtime.settings import Settings
from aisandbox_trainer.runtime.stop import Stop

Restore = Callable[[VecEnv], VecNormalize]


@dataclass(frozen=True, slots=True)
class Environments:
    """Makes the environments of one run.

    ``service`` has the pools of simulators. ``plan``: the lessons of training.
    """

    spec: TrainingRunSpec
    hyperparameters: Hyperparameters
    run_id: str
    stop: Stop
    settings: Settings
    slow_replies: SlowReplies = field(default_factory=SlowReplies)
    service: Service | None = None
    plan: LessonPlan | None = None

    def training(self) -> VecEnv:
        """The bare environments to learn from; however many addresses come or go, their number stays.

        Raises what reaching a simulator raises, UnknownEnvironment.
        """
        if isinstance(self.spec.environment, PoolEnvironment):
            return PoolVecEnv(PoolSessions(self._pool(self.spec.environment)), self.stop, self.slow_replies)
        return self._make(self._number(), evaluation=False)

    def evaluation(self, number: int) -> VecEnv:
        """Bare environments apart from those of training; of a pool, those of one free simulator."""
        if isinstance(self.spec.environment, PoolEnvironment):
            connect = partial(evaluation_session, self._pool(self.spec.environment), self.stop)
            return GrpcVecEnv(connect, self.stop, self.slow_replies)
        return self._make(number, evaluation=True)

    def wrap_training(self, env: VecEnv, restore: Restore | None = None) -> VecEnv:
        """As :meth:`wrap`, for the environments of training, which have the lessons too. Raises InvalidRun."""
        return self.wrap(env if self.plan is None else LessonsEnv(env, self.plan), restore)

    def wrap_evaluation(self, env: VecEnv, seed: int) -> VecEnv:
        """As :meth:`wrap`, for environments of evaluation, where the last lesson is taught. Raises InvalidRun."""
        lessons = self.spec.lessons[-1:]
        return self.wrap(LessonsEnv(env, LessonPlan(lessons, seed)) if lessons else env)

    def wrap(self, env: VecEnv, restore: Restore | None = None) -> VecEnv:
        """The wrappers the hyperparameters ask for; ``restore`` puts a stored VecNormalize around environments."""
        normalize, stacked = self.hyperparameters.normalize, self.hyperparameters.frame_stack
        try:
            if stacked is not None:
                env = FrameStack(env, stacked)
            if normalize is None:
                return env
            off_policy = ALGORITHMS[self.spec.algorithm].off_policy
            if off_policy or normalizes_images(env.observation_space, self.hyperparameters):
                # A replay buffer has what VecNormalize was given, so that must be what the policy takes: transposed.
                # What was normalised is no image for SB3, which would leave it as it is.
                env = _sb3_internals.transpose_images(env)
            if restore is not None:
                return restore(env)
            return normalized(env, normalize)
        except (KeyError, TypeError, ValueError, AssertionError, NotImplementedError) as error:
            raise InvalidHyperparameter(f"hyperparameters.normalize or frame_stack: {error}") from error

    def _number(self) -> int:
        environment = self.spec.environment
        addresses = len(expand_addresses(environment.address)) if isinstance(environment, GrpcEnvironment) else 1
        return effective_environments(self.spec, self.hyperparameters, addresses)

    def _pool(self, pool: PoolEnvironment) -> PoolTarget:
        if self.service is None:
            rule = "PROGRESS_ADDRESS is not set, so the trainer does not know the service that has the pool"
            raise InvalidRun([FieldError("environment.pool", rule)])
        fewest, most = effective_pool_range(pool, self.hyperparameters)
        leave_one = self.spec.evaluation is not None and not pool.environments
        return PoolTarget(self.service, pool, fewest, most, self._timeouts, leave_one)

    def _timeouts(self) -> Timeouts:
        settings = self.settings
        return Timeouts(
            # What has asked for patience before may be halted now.
            open=max(settings.simulator_open_timeout, self.slow_replies.longest),
            step=settings.simulator_timeout,
            reset=2 * settings.simulator_timeout,
        )

    def _make(self, number: int, *, evaluation: bool) -> VecEnv:
        environment = self.spec.environment
        if isinstance(environment, GrpcEnvironment):
            return GrpcVecEnv(partial(self._open, environment, number, evaluation), self.stop, self.slow_replies)
        if isinstance(environment, GymnasiumEnvironment):
            return vectorized(partial(gymnasium_env, environment.id, environment.kwargs), number)
        return vectorized(lambda: AdapterEnv(FakeExternalEnvAdapter()), number)

    def _open(self, environment: GrpcEnvironment, number: int, evaluation: bool) -> Sequence[SimulatorSession]:
        timeouts = self._timeouts()
        return self.stop.interruptibly(
            lambda: open_sessions(environment, number, run_id=self.run_id, evaluation=evaluation, timeouts=timeouts)
        )


def space_adapter_of(env: VecEnv) -> SpaceAdapter:
    """The adapter between the environments' own spaces and SB3's: an exported policy must do the same."""
    bare = env.unwrapped
    if isinstance(bare, GrpcVecEnv):
        return bare.space_adapter
    return cast(SpaceAdapter, bare.get_attr("space_adapter", 0)[0])


def declares_masks(env: VecEnv) -> bool:
    """Whether the environments say which actions are allowed; known before they are reset."""
    return bool(env.has_attr(MASKS_METHOD))


def env_of(model: BaseAlgorithm) -> VecEnv:
    """The environments a model learns from; in a trainer it always has some."""
    return cast(VecEnv, model.get_env())

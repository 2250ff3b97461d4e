"""The training loop: collect, update, evaluate, save, and recover from a simulator that fails.

Owns the order of these steps. All but collecting and updating happens between an update and the next rollout, where the
model's state is consistent and can be saved. Must not know how a process ends.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import structlog
from aisandbox_crds.status import Activity
from aisandbox_environment.errors import TransientSimulatorError
from aisandbox_model_store import ModelStoreError
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from aisandbox_trainer import _sb3_internals
from aisandbox_trainer.algorithms.divergence import FiniteCheck, check_finite
from aisandbox_trainer.checkpoints.episodes import in_this_process
from aisandbox_trainer.checkpoints.rollback import RollbackPoint, truncate_stored_episodes
from aisandbox_trainer.environments.factory import env_of
from aisandbox_trainer.environments.grpc_vec_env import GrpcVecEnv
from aisandbox_trainer.environments.retry import SimulatorRetry
from aisandbox_trainer.errors import SimulatorGone, TrainerError
from aisandbox_trainer.runtime.progress import Progress
from aisandbox_trainer.runtime.stop import Stop
from aisandbox_trainer.training.artifact_publisher import ArtifactPublisher
from aisandbox_trainer.training.episode_capture import EpisodeCapture

FAILURES_WITHOUT_PROGRESS = 10
"""A simulator that fails this often before the next update is given up."""
STOP_SECONDS = 2.0
"""How long a stop waits for the end of a rollout of DQN, which is near, before the step in flight is dropped."""
EXACT_STOP_SECONDS = 10.0
"""The same where the episodes could be resumed exactly."""
BACKOFF_SECONDS = 0.1
"""Times the number of failures: the pause before the next session, from the second failure on."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class TrainingLoop:
    """One attempt's training of ``model`` up to ``total_timesteps``.

    ``episodes_restored``: training starts in the middle of stored episodes.
    """

    model: BaseAlgorithm
    total_timesteps: int
    publisher: ArtifactPublisher
    retry: SimulatorRetry
    progress: Progress
    stop: Stop
    episodes_restored: bool = False
    rollback_point: RollbackPoint | None = None
    failures: int = 0
    _furthest: int = -1
    _check_weights: FiniteCheck = field(default_factory=FiniteCheck)
    _episode_capture: EpisodeCapture = field(default_factory=EpisodeCapture)

    def run(self) -> None:
        """Trains to the end; SB3 completes its last rollout, so a few steps more may be taken.

        Raises StopRequested with the model at a rollback point and nothing saved, SimulatorGone, NonFiniteTraining,
        the simulator's permanent errors, and what publishing raises.
        """
        self.progress.activity = Activity.TRAINING
        try:
            while self.model.num_timesteps < self.total_timesteps:
                try:
                    self._train()
                except Exception as error:
                    self._recover(error)
        except BaseException:
            self._roll_back()
            raise
        check_finite(self.model)

    def _train(self) -> None:
        """The loop itself, as of SB3's ``learn``; left only at the end, or by an exception."""
        steps = _start(self.model, self.total_timesteps, _Callback(self))
        while self.model.num_timesteps < self.total_timesteps:
            self.prepare_rollout()
            self.publisher.evaluate_if_due(self.model)
            self.publisher.save_if_due(self.model)
            self._episode_capture.rollout_starts()
            steps.collect()
            steps.update()

    def prepare_rollout(self) -> None:
        """Checks the weights and takes a rollback point. Raises StopRequested, NonFiniteTraining, Fenced."""
        if self.model.num_timesteps > self._furthest:
            self.episodes_restored = self.episodes_restored and self._furthest < 0
            self._furthest = self.model.num_timesteps
            self.failures = 0
        self._check_weights(self.model)
        if isinstance(self.model, OnPolicyAlgorithm):
            self.rollback_point = RollbackPoint.capture(self.model, self._episode_capture.capture(self.model))
        self.stop.check()
        self.publisher.check_fence()

    def after_step(self) -> None:
        """Called after every step of the environments. Raises StopRequested where waiting would take too long."""
        if not self.stop.requested:
            return
        if isinstance(self.model, OnPolicyAlgorithm):
            if self.stop.overdue(self._episode_capture.stop_grace):
                self.stop.check()
        elif self.stop.overdue(EXACT_STOP_SECONDS if in_this_process(self.model.get_env()) else STOP_SECONDS):
            # SB3 has counted this step, and stores it only after this call.
            self.model.num_timesteps -= self.model.n_envs
            _sb3_internals.reset_environments_at_next_start(self.model)
            self.stop.check()

    def _recover(self, error: Exception) -> None:
        """Makes the model ready to train again after ``error``, or raises it."""
        if isinstance(error, TransientSimulatorError):
            self._reconnect(error)
        elif isinstance(error, TrainerError | ModelStoreError) or not self.episodes_restored:
            raise error
        else:
            self._restart_episodes(error)

    def _roll_back(self, *, random: bool = True) -> None:
        if self.rollback_point is not None:
            self.rollback_point.restore(self.model, random=random)

    def _reset_episodes(self) -> None:
        truncate_stored_episodes(self.model)
        _sb3_internals.reset_environments_at_next_start(self.model)

    def _restart_episodes(self, error: Exception) -> None:
        """Starts new episodes: the environment has failed in its first rollout after stored ones were restored."""
        self.episodes_restored = False
        log.warning("restored episodes failed, new ones are started", error=f"{type(error).__name__}: {error}")
        self._roll_back()
        self._reset_episodes()

    def _reconnect(self, error: TransientSimulatorError) -> None:
        """Opens new sessions; what was collected since the rollback point is dropped."""
        point = self.rollback_point
        lost = 0 if point is None else self.model.num_timesteps - point.timesteps
        log.warning("simulator failed", error=str(error), timesteps_dropped=lost)
        self.failures += 1
        if self.failures >= FAILURES_WITHOUT_PROGRESS:
            raise SimulatorGone(f"the simulator failed {self.failures} times without an update in between: {error}")
        self._roll_back(random=False)  # not the same actions again: they may be what it failed on
        self._reset_episodes()
        if self.failures > 1:
            self.stop.sleep(BACKOFF_SECONDS * self.failures)
        self.retry.call(cast(GrpcVecEnv, env_of(self.model).unwrapped).reconnect)
        self.progress.warning = f"the simulator failed, {lost} timesteps were dropped, it is available again: {error}"
        log.info("simulator available again", timesteps=self.model.num_timesteps)


def _start(model: BaseAlgorithm, total_timesteps: int, callback: BaseCallback) -> _sb3_internals.TrainingSteps:
    started = _sb3_internals.start_learning(model, total_timesteps, callback)
    return _sb3_internals.TrainingSteps(model, total_timesteps, started, _sb3_internals.log_interval(model))


class _Callback(BaseCallback):
    """Calls the loop after each step, and logs the episode metrics a simulator has sent."""

    def __init__(self, loop: TrainingLoop) -> None:
        super().__init__()
        self._loop = loop
        bare = env_of(loop.model).unwrapped
        self._metrics = bare.episode_metrics if isinstance(bare, GrpcVecEnv) else []

    def _on_step(self) -> bool:
        self._loop.after_step()
        return True

    def _on_rollout_end(self) -> None:
        for metrics in self._metrics:
            for name, value in metrics.items():
                self.logger.record_mean(f"episode/{name}", value)
        self._metrics.clear()

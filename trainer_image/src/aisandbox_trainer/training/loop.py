"""The training loop: collect, update, evaluate, save, and recover from a simulator that fails.

Owns the order of these steps. All but collecting and updating happens between an update and the next rollout, where the
model's state is consistent and can be saved. Must not know how a process ends.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import structlog
from aisandbox_crds import Activity
from aisandbox_environment import TransientSimulatorError
from aisandbox_model_store import ModelStoreError
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.vec_env import VecEnv

from aisandbox_trainer import _sb3_internals
from aisandbox_trainer.algorithms.divergence import FiniteCheck, check_finite
from aisandbox_trainer.algorithms.environment_count import set_environments
from aisandbox_trainer.checkpoints.episodes import in_this_process
from aisandbox_trainer.checkpoints.rollback import RollbackPoint, truncate_stored_episodes
from aisandbox_trainer.environments.factory import env_of
from aisandbox_trainer.environments.grpc_vec_env import GrpcVecEnv
from aisandbox_trainer.environments.pool_vec_env import PoolVecEnv
from aisandbox_trainer.environments.retry import SimulatorRetry
from aisandbox_trainer.errors import SessionsTooShort, SimulatorGone, StopRequested, TrainerError
from aisandbox_trainer.lessons.lessons_env import plan_of
from aisandbox_trainer.runtime.progress import ProgressTracker, mean_of
from aisandbox_trainer.runtime.stop import Stop
from aisandbox_trainer.training.artifact_publisher import ArtifactPublisher
from aisandbox_trainer.training.episode_capture import EpisodeCapture
from aisandbox_trainer.training.update_guard import UpdateGuard

FAILURES_WITHOUT_PROGRESS = 10
"""A simulator that fails this often before the next update is given up; of a pool, so often each of them."""
STOP_SECONDS = 2.0
"""How long a stop waits for the end of a rollout of DQN, which is near, before the step in flight is dropped."""
EXACT_STOP_SECONDS = 10.0
"""The same where the episodes could be resumed exactly."""
UPDATE_SHARE_OF_GRACE = 3
"""A stop waits for the end of an update for one part in so many of the grace; the rest is for the checkpoint."""
BACKOFF_SECONDS = 0.1
"""Times the number of failures: the pause before the next session, from the second failure on."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class TrainingLoop:
    """One attempt's training of ``model`` up to ``total_timesteps``.

    ``episodes_restored``: training starts in the middle of stored episodes. ``stop_grace_seconds``: how long after a
    stop the process may live. ``wrap`` puts the wrappers of the run around bare environments, for a pool.
    """

    model: BaseAlgorithm
    total_timesteps: int
    publisher: ArtifactPublisher
    retry: SimulatorRetry
    progress: ProgressTracker
    stop: Stop
    episodes_restored: bool = False
    rollback_point: RollbackPoint | None = None
    failures: int = 0
    stop_grace_seconds: float = 30.0
    wrap: Callable[[VecEnv], VecEnv] | None = None
    _furthest: int = -1
    _longest_rollout: int = 0
    _simulators: int = 1
    _check_weights: FiniteCheck = field(default_factory=FiniteCheck)
    _episode_capture: EpisodeCapture = field(default_factory=EpisodeCapture)
    _update_guard: UpdateGuard = field(init=False)

    def __post_init__(self) -> None:
        self._update_guard = UpdateGuard(self.model, self.stop, self.stop_grace_seconds / UPDATE_SHARE_OF_GRACE)

    def run(self) -> None:
        """Trains to the end; SB3 completes its last rollout, so a few steps more may be taken.

        Raises StopRequested with the model at a rollback point and nothing saved, SimulatorGone, NonFiniteTraining,
        the simulator's permanent errors, and what publishing raises.
        """
        self.progress.activity = Activity.TRAINING
        self.publisher.stop_rules.training_starts()
        self._follow_pool()
        try:
            while not self._is_over():
                try:
                    self._train()
                except Exception as error:
                    self._recover(error)
        except BaseException as error:
            self.progress.work_stops()
            furthest = self.model.num_timesteps
            self._update_guard.restore()
            self._roll_back()
            if isinstance(error, StopRequested):
                self._count_dropped(furthest - self.model.num_timesteps)
            raise
        check_finite(self.model)

    def _count_dropped(self, dropped: int) -> None:
        """Reports what a stop has dropped, and from where the run continues."""
        if dropped > 0:
            step = self.model.num_timesteps
            self.progress.timesteps_dropped += dropped
            self.progress.set_notice(
                "stop",
                f"the stop dropped the {dropped} timesteps of an unfinished rollout; the run resumes from step {step}",
            )
            log.info("unfinished rollout dropped", timesteps_dropped=dropped, resumes_from=step)

    def _train(self) -> None:
        """The loop itself, as of SB3's ``learn``; left by an exception, or to begin with more of them."""
        callback = _Callback(self)
        steps = _start(self.model, self.total_timesteps, callback)
        while not self._is_over():
            self.prepare_rollout()
            self.publisher.evaluate_if_due(self.model)
            if self._is_over():
                return
            self.publisher.save_if_due(self.model)
            if self._takes_joined():
                return
            self._episode_capture.rollout_starts()
            callback.episode_has_ended = False
            self.progress.collecting_starts()
            steps.collect()
            self.progress.update_starts()
            with self._update_guard:
                steps.update()
            self.progress.update_ends()
            self._look_at_rollout(callback.episode_has_ended)

    def _is_over(self) -> bool:
        """Whether all timesteps are trained, or a rule of ``stop_when`` is met."""
        return self.model.num_timesteps >= self.total_timesteps or self.publisher.stop_rules.stop is not None

    def _look_at_rollout(self, episode_has_ended: bool) -> None:
        """Gives the rules of ``stop_when`` what the rollout has shown; at the end of the run none is met any more."""
        if self.model.num_timesteps >= self.total_timesteps:
            return
        episodes, window = self.model.ep_info_buffer or (), _sb3_internals.statistics_window(self.model)
        is_known = episode_has_ended and len(episodes) == window
        if (plan := plan_of(self.model.get_env())) is not None:  # returns of easier lessons end no run
            is_known = is_known and plan.is_last and plan.progress().episodes >= window
        rules = self.publisher.stop_rules
        rules.after_rollout(mean_of(self.model, "r") if is_known and rules.counts_training else None)

    def _takes_joined(self) -> bool:
        """Takes simulators that have joined the pool; new episodes start in all environments then."""
        bare = env_of(self.model).unwrapped
        if not isinstance(bare, PoolVecEnv) or not bare.take_joined():
            return False
        log.info("environments have joined", environments=bare.num_envs)
        self._reset_episodes()
        self._follow_pool()
        return True

    def _follow_pool(self) -> None:
        """Gives the model as many environments as the pool has for it now."""
        bare = env_of(self.model).unwrapped
        if not isinstance(bare, PoolVecEnv):
            return
        if bare.num_envs != self.model.n_envs and self.wrap is not None:
            set_environments(self.model, self.wrap(bare))
        self.progress.set_notice("pool", bare.missing)

    def prepare_rollout(self) -> None:
        """Checks the weights and takes a rollback point. Raises StopRequested, NonFiniteTraining, Fenced."""
        if self.model.num_timesteps > self._furthest:
            is_first_rollout = self._furthest < 0  # only that one continues restored episodes
            self.episodes_restored = self.episodes_restored and is_first_rollout
            self._furthest = self.model.num_timesteps
            self._longest_rollout = 0
            self.failures, self._simulators = 0, 1
        self._check_weights(self.model)
        if isinstance(self.model, OnPolicyAlgorithm):
            self.rollback_point = RollbackPoint.capture(self.model, self._episode_capture.capture(self.model))
        self.stop.check()
        self.publisher.check_fence()

    def after_step(self) -> None:
        """Called after every step of the environments. Raises StopRequested where waiting would take too long."""
        self._longest_rollout = max(self._longest_rollout, self.model.num_timesteps - self._furthest)
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
        self.progress.work_stops()
        if isinstance(error, TransientSimulatorError):
            self._reconnect(error)
        elif isinstance(error, TrainerError | ModelStoreError):
            raise error
        else:
            check_finite(self.model)  # NaN weights cause other errors first
            if not self.episodes_restored:
                raise error
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
        self.progress.timesteps_dropped += lost
        bare = cast(GrpcVecEnv, env_of(self.model).unwrapped)
        self.failures += 1
        if isinstance(bare, PoolVecEnv):  # each of its simulators that leaves is a failure
            self._simulators = max(self._simulators, bare.simulators)
        if self.failures >= FAILURES_WITHOUT_PROGRESS * self._simulators:
            raise self._given_up(error)
        self._roll_back(random=False)  # not the same actions again: they may be what it failed on
        self._reset_episodes()
        if self.failures > 1:
            self.stop.sleep(BACKOFF_SECONDS * min(self.failures, FAILURES_WITHOUT_PROGRESS))
        self.retry.call(bare.reconnect)
        self._follow_pool()
        self.progress.warning = f"the simulator failed, {lost} timesteps were dropped, it is available again: {error}"
        log.info("simulator available again", timesteps=self.model.num_timesteps)

    def _given_up(self, error: TransientSimulatorError) -> SimulatorGone:
        """Why no further session is opened: sessions that end within a rollout are another fault than none at all."""
        if self._longest_rollout <= 0:
            return SimulatorGone(f"the simulator failed {self.failures} times without an update in between: {error}")
        return SessionsTooShort(
            f"{self.failures} sessions in a row ended before one update: the longest took {self._longest_rollout} "
            f"timesteps, {_rollout_rule(self.model, self._longest_rollout)}; or have the simulator keep a session for "
            f"longer. The last one ended with: {error}"
        )


def _rollout_rule(model: BaseAlgorithm, reached: int) -> str:
    """How many timesteps an update needs, and the hyperparameter that makes it need ``reached`` or fewer."""
    if isinstance(model, OnPolicyAlgorithm):
        needed = model.n_steps * model.n_envs
        fitting = max(reached // model.n_envs, 1)
        return (
            f"but one rollout takes {needed} (n_steps={model.n_steps} x {model.n_envs} environments): choose n_steps "
            f"of {fitting} or less"
        )
    return "but one rollout takes the steps of train_freq: choose a train_freq of fewer steps"


def _ends_by_total(model: BaseAlgorithm) -> bool:
    """Whether rollouts count episodes, which may never end."""
    frequency = getattr(model, "train_freq", None)
    return isinstance(frequency, TrainFreq) and frequency.unit is TrainFrequencyUnit.EPISODE


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
        self._last = loop.total_timesteps if _ends_by_total(loop.model) else None
        self._looks_for_ends = loop.publisher.stop_rules.counts_training
        self.episode_has_ended = False

    def _on_step(self) -> bool:
        self._loop.after_step()
        if self._looks_for_ends and self.locals["dones"].any():
            self.episode_has_ended = True
        # False ends the rollout. One that counts episodes would not end where an episode never does.
        return self._last is None or self._loop.model.num_timesteps < self._last + self._longest_episode()

    def _longest_episode(self) -> float:
        """Timesteps that the last episode may take beyond the total: twice those of the longest one so far."""
        return 2 * max((float(episode["l"]) for episode in self.model.ep_info_buffer or ()), default=0.0)

    def _on_rollout_end(self) -> None:
        for metrics in self._metrics:
            for name, value in metrics.items():
                self.logger.record_mean(f"episode/{name}", value)
        self._metrics.clear()

"""The training loop: learn, save, evaluate, stop, and go on after a simulator has broken down.

Owns when each of these happens. Everything but learning happens at a boundary, which for PPO and A2C lies between an
update and the next rollout and for DQN between two trainings. Must not know how a process ends.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, cast

import structlog
from aisandbox_crds.status import Activity
from aisandbox_environment.errors import TransientSimulatorError
from aisandbox_model_store import ModelStoreError
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from aisandbox_trainer.algorithms.divergence import check_finite
from aisandbox_trainer.checkpoints.episodes import are_ours
from aisandbox_trainer.checkpoints.files import Boundary, break_off_episodes
from aisandbox_trainer.environments.factory import env_of
from aisandbox_trainer.environments.grpc_vec_env import GrpcVecEnv
from aisandbox_trainer.environments.sessions import SimulatorRetry
from aisandbox_trainer.errors import SimulatorGone, TrainerError
from aisandbox_trainer.runtime.progress import Progress
from aisandbox_trainer.runtime.stop import Stop
from aisandbox_trainer.training.artifact_publisher import ArtifactPublisher
from aisandbox_trainer.training.episode_keeper import EpisodeKeeper

FINITE_CHECK_SECONDS = 0.2
"""How often weights are looked at: each rollout of PPO, not each of the many short ones of A2C."""

BREAKS_WITHOUT_PROGRESS = 10
"""A simulator that breaks down this often before the next boundary is not worth more tries."""
STOP_SECONDS = 2.0
"""How long a stop waits for a boundary of DQN, which is near, before it gives up the step in flight."""
EXACT_STOP_SECONDS = 10.0
"""The same where episodes could go on later as if nothing had happened."""

PAUSE_SECONDS = 0.1
"""Times the number of breaks: the pause before another session, from the second break on."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class TrainingLoop:
    """One attempt's training of ``model`` up to ``total_timesteps``.

    ``continued``: it goes on in the middle of stored episodes.
    """

    model: BaseAlgorithm
    total_timesteps: int
    publication: ArtifactPublisher
    patience: SimulatorRetry
    progress: Progress
    stop: Stop
    continued: bool = False
    boundary: Boundary | None = None
    breaks: int = 0
    _reached: int = -1
    _checked_at: float = field(default=float("-inf"))
    _keeper: EpisodeKeeper = field(default_factory=EpisodeKeeper)

    def run(self) -> None:
        """Trains to the end; SB3 completes its last rollout, so a few steps more may be taken.

        Raises StopRequested with the learner at a boundary and nothing saved, SimulatorGone, NonFiniteTraining, the
        simulator's permanent errors, and what publishing raises.
        """
        callback = _Boundaries(self)
        learner: Any = self.model
        learner.before_rollout = self.at_boundary
        self.progress.activity = Activity.TRAINING
        try:
            while self.model.num_timesteps < self.total_timesteps:
                remaining = self.total_timesteps - self.model.num_timesteps
                try:
                    self.model.learn(remaining, callback, reset_num_timesteps=False)
                except TransientSimulatorError as error:
                    self._reconnect(error)
                except (TrainerError, ModelStoreError):
                    raise
                except Exception as error:
                    if not self._begin_anew(error):
                        raise
        except BaseException:
            self._return_to_boundary()
            raise
        finally:
            learner.before_rollout = None
        check_finite(self.model)

    def at_boundary(self) -> None:
        """Called between updates and the collection of experience, where the state of the learner is whole."""
        if self.model.num_timesteps > self._reached:
            self.continued = self.continued and self._reached < 0
            self._reached = self.model.num_timesteps
            self.breaks = 0
        now = time.monotonic()
        if now - self._checked_at > FINITE_CHECK_SECONDS:
            self._checked_at = now
            check_finite(self.model)
        if isinstance(self.model, OnPolicyAlgorithm):
            self.boundary = Boundary.capture(self.model, self._keeper.keep(self.model))
        self.stop.check()
        self.publication.at_boundary(self.model)
        self._keeper.rollout_begins()

    def at_step(self) -> None:
        """Called after every step of the environments."""
        if not self.stop.requested:
            return
        if isinstance(self.model, OnPolicyAlgorithm):
            if self.stop.overdue(self._keeper.patience):
                self.stop.check()
        elif self.stop.overdue(EXACT_STOP_SECONDS if are_ours(self.model.get_env()) else STOP_SECONDS):
            # SB3 has counted this step, and stores it only after this call.
            self.model.num_timesteps -= self.model.n_envs
            self.model._last_obs = None
            self.stop.check()

    def _return_to_boundary(self) -> None:
        if self.boundary is not None:
            self.boundary.restore(self.model)

    def _begin_anew(self, error: Exception) -> bool:
        """Whether new episodes are worth a try: those that went on were not to the liking of the environment."""
        if not self.continued:
            return False
        self.continued = False
        log.warning("stored episodes cannot go on and begin anew", error=f"{type(error).__name__}: {error}")
        if self.boundary is not None:
            self.boundary.restore(self.model)
        break_off_episodes(self.model)
        self.model._last_obs = None
        return True

    def _reconnect(self, error: TransientSimulatorError) -> None:
        """New sessions; what was collected since the boundary is dropped, as if it had never been."""
        lost = self.model.num_timesteps - (self.boundary.timesteps if self.boundary else self.model.num_timesteps)
        log.warning("simulator broke down", error=str(error), timesteps_dropped=lost)
        self.breaks += 1
        if self.breaks >= BREAKS_WITHOUT_PROGRESS:
            raise SimulatorGone(f"the simulator broke down {self.breaks} times without an update between: {error}")
        if self.boundary is not None:
            self.boundary.restore(self.model, random=False)  # not the same actions again: they may be what broke it
        break_off_episodes(self.model)
        self.model._last_obs = None  # SB3 resets the environments at its next learn()
        if self.breaks > 1:
            self.stop.sleep(PAUSE_SECONDS * self.breaks)
        self.patience.call(cast(GrpcVecEnv, env_of(self.model).unwrapped).reconnect)
        self.progress.warning = f"the simulator broke down, {lost} timesteps were dropped, and is back: {error}"
        log.info("simulator is back", timesteps=self.model.num_timesteps)


class _Boundaries(BaseCallback):
    """SB3's calls at their places."""

    def __init__(self, learning: TrainingLoop) -> None:
        super().__init__()
        self._learning = learning
        bare = env_of(learning.model).unwrapped
        self._metrics = bare.episode_metrics if isinstance(bare, GrpcVecEnv) else []

    def _on_step(self) -> bool:
        self._learning.at_step()
        return True

    def _on_rollout_end(self) -> None:
        for metrics in self._metrics:
            for name, value in metrics.items():
                self.logger.record_mean(f"episode/{name}", value)
        self._metrics.clear()

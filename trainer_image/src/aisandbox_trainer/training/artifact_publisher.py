"""What a run leaves on disk while it trains: checkpoints, models, and which of them is the latest, best and final one.

Owns when they are due and that a full disk does not end a training. Must not know how they are made of a learner or
where they lie.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

import structlog
from aisandbox_crds.effective_values import effective_checkpoint_interval, effective_evaluation_interval
from aisandbox_crds.output_path import normalized_output_path
from aisandbox_crds.spec import TrainingRunSpec
from aisandbox_crds.status import Activity
from aisandbox_model_store import CHECKPOINT_ZIP, Damaged, DiskFull, ModelNotFound, Pointer, Published, Writer
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env.stacked_observations import StackedObservations

from aisandbox_trainer.algorithms.divergence import check_finite
from aisandbox_trainer.checkpoints import files as checkpoints
from aisandbox_trainer.checkpoints.files import Ratings, State
from aisandbox_trainer.environments.factory import env_of, space_adapter_of
from aisandbox_trainer.export.model_files import export_model
from aisandbox_trainer.runtime.progress import Progress, mean_of
from aisandbox_trainer.training.artifacts import artifact, pointed
from aisandbox_trainer.training.evaluator import Evaluator

KEEP_CHECKPOINTS = 3
KEEP_MODELS = 5
SHARE_OF_TIME = 0.05
"""What large checkpoints may take of the time; they are made less often than they are due if they take longer."""
LARGE_BYTES = 10_000_000
"""Smaller ones are saved whenever they are due, however busy the machine: a crash costs no more than was asked for."""
FENCE_SECONDS = 5.0
"""How often to look for a newer attempt, also between publications: an older one keeps a simulator from the newer."""
REWARD_MEAN = "episode_reward_mean"
"""The detail of a checkpoint's manifest with the mean return of the last training episodes."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class ArtifactPublisher:
    """The files of one attempt; ``timesteps`` everywhere are those of all environments and attempts."""

    spec: TrainingRunSpec
    writer: Writer
    progress: Progress
    evaluator: Evaluator | None
    frame_stack: int | None
    ratings: Ratings = field(default_factory=Ratings)
    saved_at: int = 0
    clock: Callable[[], float] = time.monotonic
    _model: Published | None = None
    _not_before: float = -math.inf
    _put_off: bool = False
    _fence_checked: float = -math.inf

    def take_up_pointers(self) -> None:
        """Goes on from what earlier attempts have published: the best model stays the best until it is beaten."""
        latest, best = self._usable("latest"), self._usable("best")
        if latest is not None:
            self.progress.latest_model = pointed(self.writer.run, latest)
        if best is not None:
            self.progress.best_model = pointed(self.writer.run, best)
        # What nobody can be served is not to be beaten: without a best model the next one that is rated becomes it.
        self.ratings = replace(self.ratings, best_reward_mean=None if best is None else best.reward_mean)
        self.progress.evaluation_reward_mean = self.ratings.last_reward_mean

    def _usable(self, name: str) -> Pointer | None:
        """What the pointer names, if there is such a model."""
        try:
            pointer = self.writer.run.pointer(name)
            if pointer is not None:
                self.writer.run.model(name)
        except (Damaged, ModelNotFound) as error:
            log.warning("pointer to a model is not usable", pointer=name, error=str(error))
            return None
        return pointer

    def at_boundary(self, model: BaseAlgorithm) -> None:
        """Evaluates and saves what is due. A full disk is a warning: the next interval tries again.

        Raises Fenced, StopRequested out of an evaluation, the simulator's permanent errors, OSError.
        """
        now = model.num_timesteps
        self._check_fence()
        try:
            interval = effective_evaluation_interval(self.spec)
            if self.evaluator is not None and interval and _due(now, self.ratings.last_timesteps, interval):
                self._evaluate(model, self.evaluator)
            due = _due(now, self.saved_at, effective_checkpoint_interval(self.spec))
            if due:
                self.saved_at = now  # also when it fails: not at every boundary again
                self._rate_by_training(model)
            if (due or self._put_off) and not self._puts_off():
                self.save_checkpoint(model)
            if due:
                self.save_model(model)
        except DiskFull as error:
            self.progress.warning = self.progress.unsaved = str(error)
            log.warning("not saved, the disk is full", timesteps=now, error=str(error))

    def save_checkpoint(self, model: BaseAlgorithm) -> Published:
        """Publishes a checkpoint of the learner as it is. Raises NonFiniteTraining: from such one no way leads on."""
        check_finite(model)
        began = self.clock()
        state = State.capture(model, self.ratings, self.saved_at)
        published = self.writer.publish_checkpoint(
            model.num_timesteps,
            lambda folder: checkpoints.save(folder, model, self.spec, state),
            self._details(model, state),
        )
        self.progress.latest_checkpoint = artifact(published)
        self.progress.warning = self.progress.unsaved = ""
        self.writer.retain_checkpoints(KEEP_CHECKPOINTS, published)
        seconds = self.clock() - began
        if published.manifest.size >= LARGE_BYTES:
            self._not_before = began + seconds / SHARE_OF_TIME
        log.info("checkpoint", timesteps=published.timesteps, seconds=round(seconds, 3))
        return published

    def _check_fence(self) -> None:
        now = self.clock()
        if now - self._fence_checked >= FENCE_SECONDS:
            self._fence_checked = now
            self.writer.check_fencing_token()

    def _puts_off(self) -> bool:
        """Whether a checkpoint that is due has to wait, since the last one has taken so long."""
        waits = self.clock() < self._not_before
        if waits and not self._put_off:
            log.info("checkpoint put off", seconds=round(self._not_before - self.clock(), 1))
        self._put_off = waits
        return waits

    def _details(self, model: BaseAlgorithm, state: State) -> dict[str, str]:
        mean = mean_of(model, "r")
        details = {"algorithm": str(self.spec.algorithm), "episodes": state.why_anew or "go on"}
        return details if mean is None else {**details, REWARD_MEAN: repr(mean)}

    def save_model(self, model: BaseAlgorithm) -> Published:
        """Publishes the policy as the latest model; once for each state of the learner."""
        if self._model is None or self._model.timesteps != model.num_timesteps:
            self._model = self.writer.publish_model(model.num_timesteps, self._export(model))
            self.writer.point("latest", self._model)
            self.progress.latest_model = artifact(self._model)
            self._retain_models()
        return self._model

    def _retain_models(self) -> None:
        """Removes what is superseded; a pointer that was damaged meanwhile is written anew, and nothing removed."""
        try:
            self.writer.retain_models(KEEP_MODELS)
        except Damaged as error:
            log.warning("pointer to a model is damaged", error=str(error))
            best = self.progress.best_model
            try:
                if best is not None:
                    self.writer.point("best", self.writer.run.model(best.digest), best.reward_mean)
            except ModelNotFound:
                self.ratings = replace(self.ratings, best_reward_mean=None)

    def finish(self, model: BaseAlgorithm) -> None:
        """The end of the run: a last evaluation and checkpoint, the final model, the copy that was asked for.

        Raises DiskFull, OutsideRoot, and what :meth:`at_boundary` raises.
        """
        if self.evaluator is not None and self.ratings.last_timesteps != model.num_timesteps:
            self._evaluate(model, self.evaluator)
        self._rate_by_training(model)
        checkpoint = self.save_checkpoint(model)
        final = self.save_model(model)
        if self.spec.model_output_path:
            path = normalized_output_path(self.spec.model_output_path)
            self.writer.write_output(str(path), checkpoint.path / CHECKPOINT_ZIP)
        self.writer.point("final", final)  # the last of all: it says that the run is finished

    def is_finished(self, checkpoint: Published) -> bool:
        """Whether an attempt before has done all of :meth:`finish`; ``checkpoint`` is the newest one.

        Then the progress says what that attempt said at its end.
        """
        final = self._usable("final")
        if final is None or not self.spec.total_timesteps <= checkpoint.timesteps <= final.timesteps:
            return False
        self.take_up_pointers()
        stored = checkpoint.manifest.details.get(REWARD_MEAN)
        self.progress.stored_reward_mean = None if stored is None else float(stored)
        return True

    def _evaluate(self, model: BaseAlgorithm, evaluator: Evaluator) -> None:
        before, self.progress.activity = self.progress.activity, Activity.EVALUATING
        try:
            mean = evaluator.mean_reward(model, model.n_envs)
        finally:
            self.progress.activity = before
        self.ratings = replace(self.ratings, last_timesteps=model.num_timesteps)
        if mean is None:
            return
        model.logger.record("eval/mean_reward", mean)
        log.info("evaluation", timesteps=model.num_timesteps, reward_mean=mean)
        self.progress.evaluation_reward_mean = mean
        self.ratings = replace(self.ratings, last_reward_mean=mean)
        self._keep_if_best(model, mean)

    def _rate_by_training(self, model: BaseAlgorithm) -> None:
        """Without evaluations, the returns of the last training episodes say which model is the best."""
        episodes = model.ep_info_buffer
        if self.evaluator is None and episodes:
            self._keep_if_best(model, fmean(float(episode["r"]) for episode in episodes))

    def _keep_if_best(self, model: BaseAlgorithm, mean: float) -> None:
        best = self.ratings.best_reward_mean
        if best is None or mean > best:
            published = self.save_model(model)
            self.writer.point("best", published, mean)
            self.progress.best_model = artifact(published, mean)
            self.ratings = replace(self.ratings, best_reward_mean=mean)

    def _export(self, model: BaseAlgorithm) -> dict[str, bytes]:
        shown = space_adapter_of(env_of(model))
        observation_space: Any = shown.inner_observation_space
        if self.frame_stack is not None:
            observation_space = StackedObservations(1, self.frame_stack, observation_space).stacked_observation_space
        return export_model(
            model,
            observation_space=observation_space,
            action_space=shown.inner_action_space,
            vec_normalize=model.get_vec_normalize_env(),
            frame_stack=self.frame_stack or 1,
            timesteps=model.num_timesteps,
        )


def _due(now: int, last: int, interval: int) -> bool:
    return now // interval > last // interval

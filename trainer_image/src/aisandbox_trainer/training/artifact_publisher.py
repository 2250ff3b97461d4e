"""What a run publishes while it trains: checkpoints, models, and which is the latest, the best and the final one.

Owns the order of these, and that a full disk does not end a training. Must not know how they are made of a model or
where they are stored.
"""

from __future__ import annotations

import contextlib
import copy
import io
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import fmean

import structlog
from aisandbox_crds import Activity, EarlyStop, TrainingRunSpec, effective_evaluation_interval, normalized_output_path
from aisandbox_model_store import CHECKPOINT_ZIP, LEARNER_FILE, Damaged, DiskFull, ModelNotFound, Published, Writer
from stable_baselines3.common.base_class import BaseAlgorithm

from aisandbox_trainer import _sb3_internals
from aisandbox_trainer.algorithms.builder import algorithm_of
from aisandbox_trainer.algorithms.divergence import check_finite
from aisandbox_trainer.checkpoints import files as checkpoints
from aisandbox_trainer.checkpoints.files import EvaluationResults, TrainingState
from aisandbox_trainer.checkpoints.weights import WEIGHTS, read_weights, weights_bytes
from aisandbox_trainer.errors import UnusableFile
from aisandbox_trainer.lessons.lessons_env import plan_of
from aisandbox_trainer.runtime.output import Output, OwnOutput
from aisandbox_trainer.runtime.progress import ProgressTracker, mean_of
from aisandbox_trainer.training.artifacts import artifact_of, artifact_of_pointer, usable_pointer
from aisandbox_trainer.training.early_stopping import StopRules
from aisandbox_trainer.training.evaluator import Evaluator
from aisandbox_trainer.training.model_signature import ModelSignature
from aisandbox_trainer.training.policy_files import policy_files
from aisandbox_trainer.training.schedule import CheckpointSchedule, is_due

KEEP_CHECKPOINTS = 3
KEEP_MODELS = 5
FENCE_SECONDS = 5.0
"""How often to look for a newer attempt, also between publications: an older one keeps a simulator from the newer."""
ALGORITHM = "algorithm"
"""The detail of a checkpoint's manifest with the algorithm that is trained, which may be another than the spec's."""
REWARD_MEAN = "episode_reward_mean"
"""The detail of a checkpoint's manifest with the mean return of the last training episodes."""
EARLY_STOP = "early_stop"
"""The detail of a checkpoint's manifest with the reason and message of the early stop that it was saved after."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class ArtifactPublisher:
    """The files of one attempt; ``timesteps`` everywhere are those of all environments and attempts.

    ``output``: what writes the final model to where the run asked for it; None: the trainer itself.
    """

    spec: TrainingRunSpec
    writer: Writer
    progress: ProgressTracker
    evaluator: Evaluator | None
    frame_stack: int | None
    schedule: CheckpointSchedule
    evaluation_results: EvaluationResults = field(default_factory=EvaluationResults)
    stop_rules: StopRules = field(default_factory=StopRules)
    output: Output | None = None
    clock: Callable[[], float] = time.monotonic
    _model: Published | None = None
    _fence_checked: float = -math.inf

    def load_pointers(self) -> None:
        """Continues from what earlier attempts have published: the best model stays the best until one is better."""
        latest, best = usable_pointer(self.writer.run, "latest"), usable_pointer(self.writer.run, "best")
        if latest is not None:
            self.progress.latest_model = artifact_of_pointer(self.writer.run, latest)
        if best is not None:
            self.progress.best_model = artifact_of_pointer(self.writer.run, best)
        # A best model that cannot be served is no longer compared with: the next one that is rated becomes the best.
        self.evaluation_results = replace(
            self.evaluation_results, best_reward_mean=None if best is None else best.reward_mean
        )
        self.progress.evaluation_reward_mean = self.evaluation_results.last_reward_mean

    def check_fence(self) -> None:
        """Looks for a newer attempt, at most once in FENCE_SECONDS. Raises Fenced."""
        now = self.clock()
        if now - self._fence_checked >= FENCE_SECONDS:
            self._fence_checked = now
            self.writer.check_fencing_token()

    def evaluate_if_due(self, model: BaseAlgorithm) -> None:
        """Plays evaluation episodes if they are due, and publishes a model that is the best so far.

        Raises Fenced, StopRequested, the simulator's permanent errors, OSError.
        """
        interval = effective_evaluation_interval(self.spec)
        if self.evaluator is None or not interval:
            return
        if is_due(model.num_timesteps, self.evaluation_results.last_timesteps, interval):
            with self._full_disk_is_a_warning(model):
                self._evaluate(model, self.evaluator)

    def save_if_due(self, model: BaseAlgorithm) -> None:
        """Saves a checkpoint and publishes a model if they are due. Raises Fenced, OSError."""
        with self._full_disk_is_a_warning(model):
            due = self.schedule.becomes_due(model.num_timesteps)
            if due:
                self._rate_by_training(model)
            if self.schedule.allows_checkpoint(due):
                self.save_checkpoint(model)
            if due:
                self.save_model(model)

    def save_start(self, model: BaseAlgorithm) -> None:
        """Saves what the run starts from as its first checkpoint, so that it depends on no other run."""
        with self._full_disk_is_a_warning(model):
            self.save_checkpoint(model)

    @contextlib.contextmanager
    def _full_disk_is_a_warning(self, model: BaseAlgorithm) -> Iterator[None]:
        """The next interval tries again."""
        try:
            yield
        except DiskFull as error:
            self.progress.warning = self.progress.unsaved = str(error)
            log.warning("not saved, the disk is full", timesteps=model.num_timesteps, error=str(error))

    def save_checkpoint(self, model: BaseAlgorithm) -> Published:
        """Publishes a checkpoint of the model as it is. Raises NonFiniteTraining: no run could continue from it."""
        check_finite(model)
        started = self.clock()
        state = TrainingState.capture(model, self.evaluation_results, self.schedule.saved_at, self.stop_rules.capture())
        published = self.writer.publish_checkpoint(
            model.num_timesteps,
            partial(self._write_checkpoint, model, state),
            self._details(model, state),
        )
        self.progress.latest_checkpoint = artifact_of(published)
        self.progress.warning = self.progress.unsaved = ""
        self.writer.retain_checkpoints(KEEP_CHECKPOINTS, published)
        seconds = self.clock() - started
        self.schedule.saved(seconds, published.manifest.size)
        log.info("checkpoint", timesteps=published.timesteps, seconds=round(seconds, 3))
        return published

    def _write_checkpoint(self, model: BaseAlgorithm, state: TrainingState, folder: Path) -> None:
        checkpoints.save(folder, model, self.spec, state)
        (folder / LEARNER_FILE).write_bytes(ModelSignature.of(model).to_bytes())

    def _details(self, model: BaseAlgorithm, state: TrainingState) -> dict[str, str]:
        mean = mean_of(model, "r")
        details = {ALGORITHM: str(algorithm_of(type(model))), "episodes": state.restart_reason or "go on"}
        if (stop := self.stop_rules.stop) is not None:
            details[EARLY_STOP] = f"{stop.reason}: {stop.message}"
        return details if mean is None else {**details, REWARD_MEAN: repr(mean)}

    def save_model(self, model: BaseAlgorithm) -> Published:
        """Publishes the policy as the latest model; once for each state of the model."""
        if self._model is not None and self._model.timesteps == model.num_timesteps:
            return self._model
        published = self.writer.publish_model(model.num_timesteps, policy_files(model, self.frame_stack))
        signature = ModelSignature.of(model)
        self.writer.publish_weights(published, {WEIGHTS: weights_bytes(model), LEARNER_FILE: signature.to_bytes()})
        self.writer.point("latest", published)
        self.progress.latest_model = artifact_of(published)
        self._model = published  # only now: after a full disk, all of it is tried again
        self._retain_models()
        return published

    def _retain_models(self) -> None:
        """Removes old models; a pointer that was damaged meanwhile is written again, and nothing removed."""
        try:
            self.writer.retain_models(KEEP_MODELS)
        except Damaged as error:
            log.warning("pointer to a model is damaged", error=str(error))
            best = self.progress.best_model
            try:
                if best is not None:
                    self.writer.point("best", self.writer.run.model(best.digest), best.reward_mean)
            except ModelNotFound:
                self.evaluation_results = replace(self.evaluation_results, best_reward_mean=None)

    def finish(self, model: BaseAlgorithm) -> None:
        """The end of the run: a last evaluation and checkpoint, the final model, the copy that was requested.

        The final model of a run that has ended early is the best one.

        Raises DiskFull, OutsideRoot, and what :meth:`Output.write`, :meth:`evaluate_if_due` and :meth:`save_if_due`
        raise.
        """
        if self.evaluator is not None and self.evaluation_results.last_timesteps != model.num_timesteps:
            self._evaluate(model, self.evaluator)
        self._rate_by_training(model, ends=True)
        checkpoint = self.save_checkpoint(model)
        self.progress.early_stop = self.stop_rules.stop  # a checkpoint has it now: no later attempt goes on training
        final = self._final(self.save_model(model))
        if self.spec.model_output_path:
            path = normalized_output_path(self.spec.model_output_path)
            is_last = final.timesteps == model.num_timesteps
            last = checkpoint.path / CHECKPOINT_ZIP
            output = self.output or OwnOutput(self.writer)
            output.write(str(path), last if is_last else self._zip_of(final, model, last))
        self.writer.point("final", final)  # last, because it marks the run as finished

    def _final(self, latest: Published) -> Published:
        if self.stop_rules.stop is None or usable_pointer(self.writer.run, "best") is None:
            return latest
        return self.writer.run.model("best")

    def _zip_of(self, final: Published, model: BaseAlgorithm, otherwise: Path) -> bytes | Path:
        """SB3's zip with the weights of an earlier model; ``model`` is as before afterwards.

        ``otherwise``: the zip to be copied if those weights are damaged or were not published.
        """
        try:
            weights = read_weights(self.writer.run.weights_of(final).path / WEIGHTS)
        except (ModelNotFound, UnusableFile, FileNotFoundError) as error:
            log.warning("the zip file has the last weights and not the best ones", error=str(error))
            return otherwise
        present = copy.deepcopy(model.policy.state_dict())
        file = io.BytesIO()
        try:
            model.policy.load_state_dict(dict(weights.policy))
            model.save(file, exclude=_sb3_internals.LAST_OBSERVATION)
        finally:
            model.policy.load_state_dict(present)
        return file.getvalue()

    def is_finished(self, checkpoint: Published) -> bool:
        """Whether an earlier attempt has completed :meth:`finish`; ``checkpoint`` is the newest one.

        Then the progress is set to what that attempt reported at its end.
        """
        final = usable_pointer(self.writer.run, "final")
        details = checkpoint.manifest.details
        stopped = details.get(EARLY_STOP, "")
        ended = bool(stopped) or (final and self.spec.total_timesteps <= checkpoint.timesteps <= final.timesteps)
        if final is None or not ended:
            return False
        if stopped:
            reason, _, message = stopped.partition(": ")
            self.progress.early_stop = EarlyStop(reason, message)
        self.load_pointers()
        stored = details.get(REWARD_MEAN)
        self.progress.stored_reward_mean = None if stored is None else float(stored)
        return True

    def _evaluate(self, model: BaseAlgorithm, evaluator: Evaluator) -> None:
        before, self.progress.activity = self.progress.activity, Activity.EVALUATING
        try:
            mean = evaluator.mean_reward(model, model.n_envs)
        finally:
            self.progress.activity = before
        self.evaluation_results = replace(self.evaluation_results, last_timesteps=model.num_timesteps)
        notice = evaluator.warning
        if mean is None:
            if self.evaluation_results.last_reward_mean is None:
                notice += "; until one is, the returns of training decide which model is the best"
            self.progress.set_notice("evaluation", notice)
            return
        self.progress.set_notice("evaluation", notice)
        if (
            self.evaluation_results.last_reward_mean is None
        ):  # a best model so far was chosen by the returns of training
            self.evaluation_results = replace(self.evaluation_results, best_reward_mean=None)
        model.logger.record("eval/mean_reward", mean)
        log.info("evaluation", timesteps=model.num_timesteps, reward_mean=mean)
        self.progress.evaluation_reward_mean = mean
        self.evaluation_results = replace(self.evaluation_results, last_reward_mean=mean)
        self._publish_if_best(model, mean)
        if model.num_timesteps < self.spec.total_timesteps:
            plan = plan_of(model.get_env())
            self.stop_rules.after_evaluation(mean, counts_improvement=plan is None or plan.is_last)

    def _rate_by_training(self, model: BaseAlgorithm, *, ends: bool = False) -> None:
        """Without an evaluation, the returns of the last training episodes decide which model is the best.

        Those of another lesson are not compared: the best model is of the newest lesson. A lesson begins without
        returns, and until there are as many as decide, one lucky episode would: only where the run ``ends`` do fewer.
        """
        not_evaluated = self.evaluator is None or (
            self.evaluator.warning and self.evaluation_results.last_reward_mean is None
        )
        plan = plan_of(model.get_env())
        returns = [float(each["r"]) for each in model.ep_info_buffer or ()] if plan is None else plan.returns
        if not (not_evaluated and returns) or not (ends or plan is None or plan.has_all_returns):
            return
        results = self.evaluation_results
        if plan is not None and plan.lesson != results.lesson:
            self.evaluation_results = replace(results, best_reward_mean=None, lesson=plan.lesson)
        self._publish_if_best(model, fmean(returns))

    def _publish_if_best(self, model: BaseAlgorithm, mean: float) -> None:
        best = self.evaluation_results.best_reward_mean
        if best is None or mean > best:
            published = self.save_model(model)
            self.writer.point("best", published, mean)
            self.progress.best_model = artifact_of(published, mean)
            self.evaluation_results = replace(self.evaluation_results, best_reward_mean=mean)

"""One attempt at a run, from the start to the exit code.

Owns the order: claim the run, connect to the environment, build or restore the model, train, publish, report the
result. Must not know how the process was started (a Job's pod, a child process, a fork).
"""

from __future__ import annotations

import os
import random
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from aisandbox_crds import (
    ExitCode,
    TakenPart,
    TrainerStart,
    effective_checkpoint_interval,
)
from aisandbox_environment import TransientSimulatorError
from aisandbox_model_store import DiskFull, Published, RunStore, StartingPoint, Writer, is_signed
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from aisandbox_trainer.algorithms.divergence import check_finite
from aisandbox_trainer.checkpoints.files import EvaluationResults, TrainingState
from aisandbox_trainer.cloning.clone import Cloning
from aisandbox_trainer.environments.factory import Environments, declares_masks
from aisandbox_trainer.environments.retry import SimulatorRetry
from aisandbox_trainer.environments.slow_replies import SlowReplies
from aisandbox_trainer.errors import NonFiniteTraining, SimulatorGone, StopRequested
from aisandbox_trainer.lessons.plan import LessonPlan
from aisandbox_trainer.run.claim import claim
from aisandbox_trainer.run.exit_status import DONE, exit_status_of, write_termination_message
from aisandbox_trainer.run.source import find_demonstrations, find_source, recorded_source
from aisandbox_trainer.run.starting_model import StartingModel
from aisandbox_trainer.runtime.memory_limit import limit_memory
from aisandbox_trainer.runtime.output import output_of
from aisandbox_trainer.runtime.progress import ProgressTracker, Reporter
from aisandbox_trainer.runtime.service import Service
from aisandbox_trainer.runtime.settings import Settings
from aisandbox_trainer.runtime.stop import Stop
from aisandbox_trainer.training.artifact_publisher import ArtifactPublisher
from aisandbox_trainer.training.artifacts import artifact_of
from aisandbox_trainer.training.early_stopping import StopRules
from aisandbox_trainer.training.evaluator import Evaluator
from aisandbox_trainer.training.loop import TrainingLoop
from aisandbox_trainer.training.schedule import CheckpointSchedule
from aisandbox_trainer.training.tensorboard_files import tensorboard_logger

if TYPE_CHECKING:
    from aisandbox_environment import DemonstrationFile

log = structlog.get_logger(__name__)

DISK_PAUSE_SECONDS = 5.0


def run_attempt(start: TrainerStart, stop: Stop, settings: Settings | None = None) -> ExitCode:
    """Runs the attempt, reports its end and writes the termination message. Raises nothing.

    ``settings`` None: those of the environment variables.
    """
    progress = ProgressTracker()
    attempt = start.attempt or 0
    reporter: Reporter | None = None
    try:
        settings = settings or Settings.from_environ(os.environ)
        writer = claim(start, stop, settings)
        attempt = writer.attempt
        structlog.contextvars.bind_contextvars(attempt=attempt)
        reporter = Reporter(start, attempt, progress)
        reporter.start()
        limited = "TRAINER_MEMORY_BYTES" in os.environ or not Path("/dev/nvidia0").exists()
        if limited:  # memory that CUDA pins for the GPU is counted too: there only a bound that was set
            limit_memory(settings.memory_bytes)
        Attempt(start, writer, stop, progress, settings).run()
        status = DONE
    except BaseException as error:
        status = exit_status_of(error)
        if status.failure is not None:
            log.error("attempt failed", reason=status.failure.reason, exc_info=error)
    stop.interruptible = False
    if reporter is not None:
        reporter.close()
    log.info("attempt ended", exit_code=int(status.code), timesteps=progress.timesteps)
    write_termination_message(start, attempt, status, progress)
    return status.code


class Attempt:
    """One attempt at a run, which it has claimed."""

    def __init__(
        self, start: TrainerStart, writer: Writer, stop: Stop, progress: ProgressTracker, settings: Settings
    ) -> None:
        self._settings = settings
        self._writer = writer
        self._spec = start.spec
        self._service = Service.of(start)
        self._store = RunStore(start.models_dir, start.checkpoint_dir)
        self._source: StartingPoint | None = None
        self._demonstrations: DemonstrationFile | None = None
        self._stop = stop
        self._output = output_of(start, writer, stop)
        self._progress = progress
        self._retry = SimulatorRetry(settings.simulator_patience, progress, stop)
        seed = self._spec.seed
        self._seed = seed if seed is not None else random.SystemRandom().randrange(2**31)
        self._model = StartingModel(self._spec, self._seed, writer, progress, settings)

    def run(self) -> None:
        """Trains the run to its end. Raises what :func:`exit_status_of` maps to an exit status."""
        checkpoint = self._newest_checkpoint()
        if checkpoint is not None:
            self._progress.resumed_from = self._progress.latest_checkpoint = artifact_of(checkpoint)
            if self._publisher().is_finished(checkpoint):
                log.info("the run is finished already", timesteps=checkpoint.timesteps)
                return
        if self._spec.model_output_path:
            self._output.check()
        self._find_source(checkpoint)
        run_id = self._writer.run.run_id
        slow_replies = SlowReplies(partial(self._progress.set_notice, "patience"))
        lessons = self._spec.lessons
        plan = LessonPlan(lessons, self._seed) if lessons else None
        environments = Environments(
            self._spec,
            self._model.hyperparameters,
            run_id,
            self._stop,
            self._settings,
            slow_replies,
            self._service,
            plan,
        )
        bare = self._retry.call(environments.training)
        log.info("environments ready", environments=bare.num_envs)
        try:
            self._model.choose_algorithm(declares_masks(bare), checkpoint)
            self._train(environments, bare, checkpoint)
        finally:
            bare.close()

    def _newest_checkpoint(self) -> Published | None:
        """The newest intact checkpoint of the run; its users are told of damaged ones that are newer."""

        def warn_of_damage(checkpoint: str, reason: str) -> None:
            self._progress.warning = (
                f"checkpoint {checkpoint} is damaged ({reason}) and was moved away; an older one is used"
            )
            log.warning("checkpoint is damaged", checkpoint=checkpoint, reason=reason)

        found = self._writer.run.newest_checkpoint(warn_of_damage, self._writer.key)
        if found is not None and self._writer.key is not None and not is_signed(found.manifest):
            log.warning(
                "the checkpoint has no keyed digest, and is read because its run began before there were keys",
                checkpoint=found.relative,
            )
        return found

    def _find_source(self, checkpoint: Published | None) -> None:
        """Finds what the run starts and learns from, unless it has a checkpoint of its own.

        Raises CannotStartFrom, InvalidDemonstrations.
        """
        start, demonstrations = self._spec.start_from, self._spec.demonstrations
        if demonstrations is not None and checkpoint is None:
            self._demonstrations = find_demonstrations(self._store, demonstrations, self._writer, self._stop.check)
        if start is None:
            return
        if checkpoint is None:
            self._source = find_source(self._store, start, self._writer, self._stop.check)
        self._progress.started_from = recorded_source(self._writer.run)

    def _train(self, environments: Environments, bare: VecEnv, checkpoint: Published | None) -> None:
        model, state = self._model.make(environments, bare, checkpoint, self._source, self._demonstrations)
        self._progress.model, self._progress.plan = model, environments.plan
        model.set_logger(tensorboard_logger(self._writer.run.logs_path))
        publisher = self._publisher(self._evaluator(environments), state)
        publisher.load_pointers()
        total, stop = self._spec.total_timesteps, self._stop
        restored = state is not None and state.episodes is not None
        loop = TrainingLoop(
            model,
            total,
            publisher,
            self._retry,
            self._progress,
            stop,
            restored,
            stop_grace_seconds=self._settings.stop_grace,
            wrap=environments.wrap_training,
        )
        try:
            self._prepare(environments, model, publisher)
            loop.run()
            self._finish(publisher, model)
        except (StopRequested, SimulatorGone, TransientSimulatorError):
            # The model is at a rollback point, so its state is consistent.
            if model.num_timesteps > (checkpoint.timesteps if checkpoint else 0):
                self._save(publisher, model)
            raise
        except NonFiniteTraining:
            raise
        except Exception:
            check_finite(model)  # NaN weights cause other errors first
            raise
        finally:
            model.logger.close()

    def _prepare(self, environments: Environments, model: BaseAlgorithm, publisher: ArtifactPublisher) -> None:
        """Teaches a new model what was recorded, and saves what it begins with: of its own, or of others."""
        settings, start = self._spec.demonstrations, self._spec.start_from
        if self._demonstrations is not None and settings is not None:
            Cloning(
                model,
                self._demonstrations,
                settings,
                environments.wrap,
                self._seed,
                self._progress,
                self._stop,
                keep_statistics=start is not None and TakenPart.NORMALIZATION in start.take,
            ).run()
        if self._source is not None or self._demonstrations is not None:
            publisher.save_start(model)

    def _finish(self, publisher: ArtifactPublisher, model: BaseAlgorithm) -> None:
        """Publishes the end. What was learned is only in memory, so this waits for space on a full disk."""
        full_since: float | None = None
        while True:
            try:
                return publisher.finish(model)
            except DiskFull as error:
                now = time.monotonic()
                full_since = now if full_since is None else full_since
                if now > full_since + self._settings.disk_patience:
                    raise
                self._progress.unsaved = str(error)
                self._progress.warning = f"{error}; the training has ended and waits for space to save its result"
                log.warning("result not saved, the disk is full", error=str(error))
            self._stop.sleep(min(DISK_PAUSE_SECONDS, self._settings.disk_patience))

    def _save(self, publisher: ArtifactPublisher, model: BaseAlgorithm) -> None:
        latest = self._progress.latest_checkpoint
        if latest is not None and latest.timesteps == model.num_timesteps:
            return
        try:
            publisher.save_checkpoint(model)
        except Exception as error:  # the attempt ends for another reason, which this one must not hide
            log.warning("not saved at the end of the attempt", error=str(error))

    def _publisher(self, evaluator: Evaluator | None = None, state: TrainingState | None = None) -> ArtifactPublisher:
        return ArtifactPublisher(
            spec=self._spec,
            writer=self._writer,
            progress=self._progress,
            output=self._output,
            evaluator=evaluator,
            frame_stack=self._model.hyperparameters.frame_stack,
            schedule=CheckpointSchedule(
                effective_checkpoint_interval(self._spec), state.saved_at if state is not None else 0
            ),
            evaluation_results=state.evaluation_results if state is not None else EvaluationResults(),
            stop_rules=StopRules(self._spec.stop_when, state.early_stopping if state is not None else None),
        )

    def _evaluator(self, environments: Environments) -> Evaluator | None:
        evaluation = self._spec.evaluation
        if evaluation is None:
            return None
        steps = self._settings.evaluation_episode_steps
        return Evaluator(environments, evaluation, self._seed, self._stop.check, steps)

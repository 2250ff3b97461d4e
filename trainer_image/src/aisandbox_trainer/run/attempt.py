"""One attempt at a run, from the start to the exit code.

Owns the order: claim the run, reach the environment, build or restore the learner, train, publish, say what became of
it. Must not know how the process was made (a Job's pod, a child process, a fork).
"""

from __future__ import annotations

import os
import random
import time
from contextlib import suppress
from pathlib import Path

import structlog
from aisandbox_crds.errors import InvalidRun
from aisandbox_crds.hyperparameters import (
    Hyperparameters,
    batch_conflict,
    frequency_conflict,
    parse_hyperparameters,
)
from aisandbox_crds.trainer_exit import ExitCode, TerminationMessage
from aisandbox_crds.trainer_start import TrainerStart
from aisandbox_environment.errors import TransientSimulatorError
from aisandbox_model_store import DiskFull, Published, RunStore, Writer
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from aisandbox_trainer.algorithms import builder as algorithms
from aisandbox_trainer.algorithms.divergence import check_finite
from aisandbox_trainer.algorithms.policy_choice import check_actions, choose_policy
from aisandbox_trainer.checkpoints import files as checkpoints
from aisandbox_trainer.checkpoints.files import Ratings, State
from aisandbox_trainer.environments.factory import Environments, space_adapter_of
from aisandbox_trainer.environments.sessions import SimulatorRetry
from aisandbox_trainer.errors import NonFiniteTraining, SimulatorGone, StopRequested
from aisandbox_trainer.run.exit_status import DONE, ExitStatus, exit_status_of
from aisandbox_trainer.runtime.progress import Progress, Reporter
from aisandbox_trainer.runtime.settings import Settings
from aisandbox_trainer.runtime.stop import Stop
from aisandbox_trainer.training.artifact_publisher import ArtifactPublisher
from aisandbox_trainer.training.artifacts import artifact
from aisandbox_trainer.training.evaluator import Evaluator
from aisandbox_trainer.training.loop import TrainingLoop
from aisandbox_trainer.training.tensorboard_files import tensorboard_logger

log = structlog.get_logger(__name__)

DISK_PAUSE_SECONDS = 5.0


def run_attempt(start: TrainerStart, stop: Stop, settings: Settings | None = None) -> ExitCode:
    """Does the attempt, reports its end and writes the termination message. Raises nothing.

    ``settings`` None: those of the environment variables.
    """
    progress = Progress()
    attempt = start.attempt or 0
    reporter: Reporter | None = None
    try:
        writer = RunStore(start.models_dir, start.checkpoint_dir).run(start.run_id).claim(start.attempt, start.run_uid)
        attempt = writer.attempt
        structlog.contextvars.bind_contextvars(attempt=attempt)
        reporter = Reporter(start, attempt, progress)
        reporter.start()
        Attempt(start, writer, stop, progress, settings or Settings.from_environ(os.environ)).run()
        ending = DONE
    except BaseException as error:
        ending = exit_status_of(error)
        if ending.failure is not None:
            log.error("attempt failed", reason=ending.failure.reason, exc_info=error)
    stop.interruptible = False
    if reporter is not None:
        reporter.close()
    log.info("attempt ended", exit_code=int(ending.code), timesteps=progress.timesteps)
    write_termination_message(start, attempt, ending, progress)
    return ending.code


def write_termination_message(start: TrainerStart, attempt: int, ending: ExitStatus, progress: Progress) -> None:
    """The last act; the exit code says enough where this fails. ``attempt`` is 0 where none could be claimed."""
    if start.termination_message_path is None:
        return
    message = TerminationMessage.of(progress.report(attempt), int(ending.code), ending.failure)
    with suppress(OSError):
        start.termination_message_path.write_text(message.to_json())


class Attempt:
    """The parts of one attempt as they come into being."""

    def __init__(self, start: TrainerStart, writer: Writer, stop: Stop, progress: Progress, settings: Settings) -> None:
        self._settings = settings
        self._writer = writer
        self._spec = start.spec
        self._stop = stop
        self._progress = progress
        self._retry = SimulatorRetry(settings.simulator_patience, progress, stop)
        self._hyperparameters = parse_hyperparameters(self._spec.algorithm, self._spec.hyperparameters)
        seed = self._spec.seed
        self._seed = seed if seed is not None else random.SystemRandom().randrange(2**31)

    def run(self) -> None:
        """Trains the run to its end. Raises what :func:`exit_status_of` knows."""
        checkpoint = self._writer.run.newest_checkpoint(self._warn_of_damage)
        if checkpoint is not None:
            self._progress.resumed_from = self._progress.latest_checkpoint = artifact(checkpoint)
            if self._publication().is_finished(checkpoint):
                log.info("the run is finished already", timesteps=checkpoint.timesteps)
                return
        run_id = self._writer.run.run_id
        environments = Environments(self._spec, self._hyperparameters, run_id, self._stop, self._settings)
        bare = self._retry.call(environments.training)
        log.info("environments ready", environments=bare.num_envs)
        if bare.has_attr("action_masks"):
            log.warning("action masks are not used, the simulator must take every action")
        try:
            self._learn(environments, bare, checkpoint)
        finally:
            bare.close()

    def _warn_of_damage(self, checkpoint: str, reason: str) -> None:
        self._progress.warning = (
            f"checkpoint {checkpoint} is damaged ({reason}) and was set aside; an older one is used"
        )
        log.warning("checkpoint is damaged", checkpoint=checkpoint, reason=reason)

    def _learn(self, environments: Environments, bare: VecEnv, checkpoint: Published | None) -> None:
        model, state = self._model(environments, bare, checkpoint)
        self._progress.learner = model
        model.set_logger(tensorboard_logger(self._writer.run.logs_path))
        publication = self._publication(self._evaluator(environments), state)
        publication.take_up_pointers()
        total, stop = self._spec.total_timesteps, self._stop
        continued = state is not None and state.episodes is not None
        learning = TrainingLoop(model, total, publication, self._retry, self._progress, stop, continued)
        try:
            learning.run()
            self._finish(publication, model)
        except (StopRequested, SimulatorGone, TransientSimulatorError):
            # The learner is whole: it stands at a boundary.
            if model.num_timesteps > (checkpoint.timesteps if checkpoint else 0):
                self._save(publication, model)
            raise
        except NonFiniteTraining:
            raise
        except Exception:
            check_finite(model)  # weights that are NaN make other errors first
            raise
        finally:
            model.logger.close()

    def _finish(self, publication: ArtifactPublisher, model: BaseAlgorithm) -> None:
        """Publishes the end. What was learned is only in memory: a full disk is waited for, and may be freed."""
        full_since: float | None = None
        while True:
            try:
                return publication.finish(model)
            except DiskFull as error:
                now = time.monotonic()
                full_since = now if full_since is None else full_since
                if now > full_since + self._settings.disk_patience:
                    raise
                self._progress.unsaved = str(error)
                self._progress.warning = f"{error}; the run is trained and waits for space to save the end"
                log.warning("end not saved, the disk is full", error=str(error))
            self._stop.sleep(min(DISK_PAUSE_SECONDS, self._settings.disk_patience))

    def _save(self, publication: ArtifactPublisher, model: BaseAlgorithm) -> None:
        latest = self._progress.latest_checkpoint
        if latest is not None and latest.timesteps == model.num_timesteps:
            return
        try:
            publication.save_checkpoint(model)
        except Exception as error:  # the attempt ends for another reason, which must not be hidden by this one
            log.warning("not saved at the end of the attempt", error=str(error))

    def _model(
        self, environments: Environments, bare: VecEnv, checkpoint: Published | None
    ) -> tuple[BaseAlgorithm, State | None]:
        shown = space_adapter_of(bare)
        check_actions(self._spec.algorithm, shown.inner_action_space)
        self._check_number(bare.num_envs, self._hyperparameters)
        policy = choose_policy(self._hyperparameters.policy, shown.observation_space)
        algorithms.set_threads(policy, self._settings.torch_threads)
        if checkpoint is None:
            env = environments.wrap(bare)
            return algorithms.build(self._spec.algorithm, self._hyperparameters, policy, env, self._seed), None
        return self._restored(environments, bare, checkpoint, policy)

    def _restored(
        self, environments: Environments, bare: VecEnv, checkpoint: Published, policy: str
    ) -> tuple[BaseAlgorithm, State]:
        folder: Path = checkpoint.path
        env = environments.wrap(bare, folder / checkpoints.NORMALIZATION)
        device = str(self._hyperparameters.keywords.get("device", algorithms.default_device(policy)))
        model, state = checkpoints.load(folder, algorithms.class_of(self._spec.algorithm), env, device)
        # Loading seeds everything as at the start. Environments in this process go on with their generators, if not in
        # their episodes; a simulator gets new seeds, or it would play the episodes of the beginning again.
        if state.random.environments is None:
            bare.seed((self._seed + checkpoint.timesteps) % 2**32)
        else:
            bare._reset_seeds()
        state.random.restore(model.action_space, bare)
        begins_anew = state.why_anew or None
        log.info("resumed", timesteps=model.num_timesteps, checkpoint=checkpoint.relative, begins_anew=begins_anew)
        return model, state

    def _publication(self, evaluator: Evaluator | None = None, state: State | None = None) -> ArtifactPublisher:
        return ArtifactPublisher(
            spec=self._spec,
            writer=self._writer,
            progress=self._progress,
            evaluator=evaluator,
            frame_stack=self._hyperparameters.frame_stack,
            ratings=state.ratings if state is not None else Ratings(),
            saved_at=state.saved_at if state is not None else 0,
        )

    def _evaluator(self, environments: Environments) -> Evaluator | None:
        evaluation = self._spec.evaluation
        return None if evaluation is None else Evaluator(environments, evaluation, self._seed, self._stop.check)

    def _check_number(self, environments: int, hyperparameters: Hyperparameters) -> None:
        for rule in (batch_conflict, frequency_conflict):
            if (conflict := rule(self._spec.algorithm, hyperparameters, environments)) is not None:
                raise InvalidRun([conflict])

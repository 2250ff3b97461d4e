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
    ALGORITHMS,
    Algorithm,
    ExitCode,
    Hyperparameters,
    InvalidRun,
    TakenPart,
    TrainerStart,
    batch_conflict,
    effective_checkpoint_interval,
    for_algorithm,
    frequency_conflict,
    parse_hyperparameters,
    trained_algorithm,
)
from aisandbox_environment import TransientSimulatorError
from aisandbox_model_store import CheckpointKey, DiskFull, Published, RunStore, StartingPoint, Writer, is_signed
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from aisandbox_trainer import _sb3_internals
from aisandbox_trainer.algorithms import builder
from aisandbox_trainer.algorithms.builder import class_of
from aisandbox_trainer.algorithms.divergence import check_finite
from aisandbox_trainer.algorithms.memory_check import check_memory, most_environments
from aisandbox_trainer.algorithms.policy_choice import (
    check_actions,
    check_hyperparameters,
    check_masks,
    choose_policy,
)
from aisandbox_trainer.checkpoints import files as checkpoints
from aisandbox_trainer.checkpoints.files import CheckpointFiles, EvaluationResults, TrainingState
from aisandbox_trainer.checkpoints.weights import weights_of
from aisandbox_trainer.cloning.clone import Cloning
from aisandbox_trainer.cloning.fit import check_fit, check_memory_of_rows
from aisandbox_trainer.environments.factory import Environments, declares_masks, space_adapter_of
from aisandbox_trainer.environments.patience import Patience
from aisandbox_trainer.environments.pool_vec_env import PoolVecEnv
from aisandbox_trainer.environments.retry import SimulatorRetry
from aisandbox_trainer.environments.space_adapter import SpaceAdapter
from aisandbox_trainer.errors import InvalidDemonstrations, NonFiniteTraining, SimulatorGone, StopRequested
from aisandbox_trainer.fast_updates.self_test import SelfTested
from aisandbox_trainer.lessons.plan import LessonPlan
from aisandbox_trainer.run.exit_status import DONE, exit_status_of, write_termination_message
from aisandbox_trainer.run.source import find_demonstrations, find_source, read_source, recorded_source
from aisandbox_trainer.runtime.memory_limit import limit_memory
from aisandbox_trainer.runtime.output import output_of
from aisandbox_trainer.runtime.progress import Progress, Reporter
from aisandbox_trainer.runtime.service import Service
from aisandbox_trainer.runtime.settings import Settings
from aisandbox_trainer.runtime.stop import Stop
from aisandbox_trainer.training.artifact_publisher import ALGORITHM, ArtifactPublisher
from aisandbox_trainer.training.artifacts import artifact_of
from aisandbox_trainer.training.early_stopping import StopRules
from aisandbox_trainer.training.evaluator import Evaluator
from aisandbox_trainer.training.loop import TrainingLoop
from aisandbox_trainer.training.rehearsal import Rehearsal, configuration_of
from aisandbox_trainer.training.schedule import CheckpointSchedule
from aisandbox_trainer.training.take_over import take_over
from aisandbox_trainer.training.tensorboard_files import tensorboard_logger

if TYPE_CHECKING:
    from aisandbox_environment import DemonstrationFile

log = structlog.get_logger(__name__)

DISK_PAUSE_SECONDS = 5.0
CLAIM_PAUSE_SECONDS = 1.0
_SPARE_BYTES = 1 << 20


def run_attempt(start: TrainerStart, stop: Stop, settings: Settings | None = None) -> ExitCode:
    """Runs the attempt, reports its end and writes the termination message. Raises nothing.

    ``settings`` None: those of the environment variables.
    """
    progress = Progress()
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


def claim(start: TrainerStart, stop: Stop, settings: Settings) -> Writer:
    """Claims the run's folder for the attempt. Raises StopRequested, and what :meth:`RunFolder.claim` raises.

    What an earlier run of this name has published is not set aside at once: if this run is being restored from a
    backup, its trainer is stopped, or started again with the uid of those files, when the run has its status.
    """
    run = RunStore(start.models_dir, start.checkpoint_dir).run(start.run_id)
    if start.run_uid and (earlier := run.earlier_owner(start.run_uid)):
        log.warning(
            "an earlier run of this name has files here, which are set aside unless the run is being restored",
            earlier_uid=earlier,
            wait_seconds=settings.earlier_run_patience,
        )
        end = time.monotonic() + settings.earlier_run_patience
        while run.earlier_owner(start.run_uid) and (left := end - time.monotonic()) > 0:
            stop.sleep(min(left, CLAIM_PAUSE_SECONDS))
    return run.claim(start.attempt, start.run_uid, _checkpoint_key(start))


def _checkpoint_key(start: TrainerStart) -> CheckpointKey | None:
    key = start.checkpoint_key
    return None if key is None else CheckpointKey(bytes.fromhex(key), start.accept_unsigned_checkpoints)


class Attempt:
    """One attempt at a run, which it has claimed."""

    def __init__(self, start: TrainerStart, writer: Writer, stop: Stop, progress: Progress, settings: Settings) -> None:
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
        self._algorithm = self._spec.algorithm
        self._hyperparameters = parse_hyperparameters(self._spec.algorithm, self._spec.hyperparameters)
        seed = self._spec.seed
        self._seed = seed if seed is not None else random.SystemRandom().randrange(2**31)

    def run(self) -> None:
        """Trains the run to its end. Raises what :func:`exit_status_of` maps to an exit status."""
        checkpoint = self._writer.run.newest_checkpoint(self._warn_of_damage, self._writer.key)
        if checkpoint is not None:
            self._warn_if_unsigned(checkpoint)
            self._progress.resumed_from = self._progress.latest_checkpoint = artifact_of(checkpoint)
            if self._publisher().is_finished(checkpoint):
                log.info("the run is finished already", timesteps=checkpoint.timesteps)
                return
        if self._spec.model_output_path:
            self._output.check()
        self._find_source(checkpoint)
        run_id = self._writer.run.run_id
        patience = Patience(partial(self._progress.set_notice, "patience"))
        lessons = self._spec.lessons
        plan = LessonPlan(lessons, self._seed) if lessons else None
        environments = Environments(
            self._spec, self._hyperparameters, run_id, self._stop, self._settings, patience, self._service, plan
        )
        bare = self._retry.call(environments.training)
        log.info("environments ready", environments=bare.num_envs)
        try:
            self._choose_algorithm(declares_masks(bare), checkpoint)
            self._train(environments, bare, checkpoint)
        finally:
            bare.close()

    def _choose_algorithm(self, masks: bool, checkpoint: Published | None) -> None:
        """Sets the algorithm that is trained: the spec's, what obeys masks in its place, or that of the checkpoint.

        ``masks``: the environments declare action masks. Raises UnsupportedActionSpace.
        """
        asked = self._spec.algorithm
        if checkpoint is None:
            check_masks(asked, masks)
            self._algorithm = trained_algorithm(asked, masks)
        else:
            self._algorithm = Algorithm(checkpoint.manifest.details.get(ALGORITHM, asked))
        if masks and not ALGORITHMS[self._algorithm].masks:  # of an earlier version, or the simulator had none
            self._progress.set_notice(
                "masks", "the run was begun without action masks, so it does not obey those that are declared now"
            )
        elif not masks:
            check_masks(self._algorithm, masks)
        self._progress.trained_algorithm = str(self._algorithm)
        if self._algorithm is not asked:
            log.info("action masks are declared", requested=str(asked), trained=str(self._algorithm))
            self._hyperparameters = for_algorithm(self._algorithm, self._hyperparameters)

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

    def _warn_if_unsigned(self, checkpoint: Published) -> None:
        if self._writer.key is not None and not is_signed(checkpoint.manifest):
            log.warning(
                "the checkpoint has no keyed digest, and is read because its run began before there were keys",
                checkpoint=checkpoint.relative,
            )

    def _warn_of_damage(self, checkpoint: str, reason: str) -> None:
        self._progress.warning = (
            f"checkpoint {checkpoint} is damaged ({reason}) and was moved away; an older one is used"
        )
        log.warning("checkpoint is damaged", checkpoint=checkpoint, reason=reason)

    def _train(self, environments: Environments, bare: VecEnv, checkpoint: Published | None) -> None:
        model, state = self._model(environments, bare, checkpoint)
        if isinstance(model, SelfTested):
            model.configuration = configuration_of(self._spec, self._algorithm, space_adapter_of(bare))
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

    def _model(
        self, environments: Environments, bare: VecEnv, checkpoint: Published | None
    ) -> tuple[BaseAlgorithm, TrainingState | None]:
        adapter = space_adapter_of(bare)
        check_actions(self._algorithm, adapter.inner_action_space)
        if checkpoint is None:
            inner = adapter.inner_observation_space, adapter.inner_action_space
            check_hyperparameters(self._algorithm, self._hyperparameters, *inner)
        self._check_environments(bare.num_envs, self._hyperparameters)
        spaces = adapter.observation_space, adapter.action_space
        learner = self._algorithm, self._hyperparameters, *spaces
        check_memory(*learner, bare.num_envs, self._settings.memory_bytes)
        if isinstance(pool := bare.unwrapped, PoolVecEnv):
            pool.take_at_most(most_environments(*learner, pool.most, self._settings.memory_bytes))
        self._check_demonstrations(adapter, bare)
        policy = choose_policy(self._spec.algorithm, self._hyperparameters.policy, adapter.observation_space)
        builder.set_threads(policy, self._settings.torch_threads)
        if checkpoint is None:
            Rehearsal(environments, self._algorithm, self._hyperparameters, policy).run(adapter)
            env = environments.wrap_training(bare)
            model = builder.build(self._class(), self._hyperparameters, policy, env, self._seed)
            self._start_from_source(model)
            return model, None
        return self._restored(environments, bare, checkpoint, policy)

    def _check_demonstrations(self, adapter: SpaceAdapter, bare: VecEnv) -> None:
        """Raises InvalidDemonstrations if they are of another environment, or too large."""
        file, settings = self._demonstrations, self._spec.demonstrations
        if file is None or settings is None:
            return
        try:
            check_fit(file, adapter, masks=declares_masks(bare))
            run = self._algorithm, self._hyperparameters, bare.num_envs
            check_memory_of_rows(file, adapter, *run, self._settings.memory_bytes)
        except InvalidDemonstrations as error:
            raise InvalidDemonstrations(f"demonstrations: {settings.file!r} does not fit: {error}") from error

    def _start_from_source(self, model: BaseAlgorithm) -> None:
        """Takes over what the run is to start from. Raises CannotStartFrom."""
        start = self._spec.start_from
        if start is None or self._source is None:
            return
        # An optimizer has two numbers for each weight, SB3's zip the target networks too, and both some text.
        own = weights_of(model)
        largest = 4 * own.size + _SPARE_BYTES
        learned = read_source(self._source, start.take, largest, own.optimizers.keys(), self._stop.check)
        take_over(model, learned, start.take)
        log.info("weights taken over", source=self._source.name, take=list(start.take))

    def _restored(
        self, environments: Environments, bare: VecEnv, checkpoint: Published, policy: str
    ) -> tuple[BaseAlgorithm, TrainingState]:
        files = self._files_of(checkpoint)
        env = environments.wrap_training(bare, files.read_normalization)
        device = str(self._hyperparameters.keywords.get("device", builder.default_device(policy)))
        model, state = checkpoints.load(files, self._class(), env, device)
        # Loading seeds everything as at the start. Environments in this process continue their generators, if not
        # their episodes; a simulator gets new seeds, or it would repeat the episodes of the start of the run.
        # At step 0 nothing was played: the environments begin with the run's seeds.
        if state.random.environments is None or checkpoint.timesteps == 0:
            bare.seed((self._seed + checkpoint.timesteps) % 2**32)
        else:
            _sb3_internals.clear_pending_seeds(bare)
        state.random.restore(model.action_space, bare)
        reason = state.restart_reason or None
        log.info("resumed", timesteps=model.num_timesteps, checkpoint=checkpoint.relative, episodes_restarted=reason)
        return model, state

    def _files_of(self, checkpoint: Published) -> CheckpointFiles:
        """The verified files; a pickle in the header of a replay buffer is read only of earlier versions."""
        has_pickles = not is_signed(checkpoint.manifest)
        return CheckpointFiles(checkpoint.path, partial(self._writer.run.read, checkpoint), has_pickles)

    def _class(self) -> type[BaseAlgorithm]:
        return class_of(self._algorithm, fast_update=self._settings.fast_update)

    def _publisher(self, evaluator: Evaluator | None = None, state: TrainingState | None = None) -> ArtifactPublisher:
        return ArtifactPublisher(
            spec=self._spec,
            writer=self._writer,
            progress=self._progress,
            output=self._output,
            evaluator=evaluator,
            frame_stack=self._hyperparameters.frame_stack,
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

    def _check_environments(self, environments: int, hyperparameters: Hyperparameters) -> None:
        for rule in (batch_conflict, frequency_conflict):
            if (conflict := rule(self._algorithm, hyperparameters, environments)) is not None:
                raise InvalidRun([conflict])

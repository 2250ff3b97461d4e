"""The model that an attempt begins with: a new one, or the one of a checkpoint.

Owns which algorithm is trained, and the checks of a model that need its environments. Must not know what follows.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import structlog
from aisandbox_crds import (
    ALGORITHMS,
    Algorithm,
    InvalidRun,
    TrainingRunSpec,
    batch_conflict,
    buffer_conflict,
    for_algorithm,
    frequency_conflict,
    parse_hyperparameters,
    trained_algorithm,
)
from aisandbox_model_store import Published, StartingPoint, Writer, is_signed
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from aisandbox_trainer import _sb3_internals
from aisandbox_trainer.algorithms import builder
from aisandbox_trainer.algorithms.builder import class_of
from aisandbox_trainer.algorithms.memory_check import check_memory, most_environments
from aisandbox_trainer.algorithms.policy_choice import (
    check_actions,
    check_hyperparameters,
    check_masks,
    choose_policy,
)
from aisandbox_trainer.checkpoints import files as checkpoints
from aisandbox_trainer.checkpoints.files import CheckpointFiles, TrainingState
from aisandbox_trainer.checkpoints.weights import weights_of
from aisandbox_trainer.cloning.fit import check_compatible, check_memory_of_rows
from aisandbox_trainer.environments.factory import Environments, declares_masks, space_adapter_of
from aisandbox_trainer.environments.pool_vec_env import PoolVecEnv
from aisandbox_trainer.environments.space_adapter import SpaceAdapter
from aisandbox_trainer.errors import InvalidDemonstrations
from aisandbox_trainer.fast_updates.self_test import SelfTested
from aisandbox_trainer.run.source import read_source
from aisandbox_trainer.runtime.progress import ProgressTracker
from aisandbox_trainer.runtime.settings import Settings
from aisandbox_trainer.training.artifact_publisher import ALGORITHM
from aisandbox_trainer.training.dry_run import DryRun, configuration_of
from aisandbox_trainer.training.take_over import take_over

if TYPE_CHECKING:
    from aisandbox_environment import DemonstrationFile

log = structlog.get_logger(__name__)

_SPARE_BYTES = 1 << 20


class StartingModel:
    """Builds or restores the model of one attempt; ``seed`` is the run's.

    ``algorithm`` is what is trained, which is known once :meth:`choose_algorithm` has been called.
    """

    def __init__(
        self,
        spec: TrainingRunSpec,
        seed: int,
        writer: Writer,
        progress: ProgressTracker,
        settings: Settings,
    ) -> None:
        self._spec = spec
        self._seed = seed
        self._writer = writer
        self._progress = progress
        self._settings = settings
        self.algorithm = spec.algorithm
        self.hyperparameters = parse_hyperparameters(spec.algorithm, spec.hyperparameters)

    def choose_algorithm(self, masks: bool, checkpoint: Published | None) -> None:
        """Sets the algorithm that is trained: the spec's, what obeys masks in its place, or that of the checkpoint.

        ``masks``: the environments declare action masks. Raises UnsupportedActionSpace.
        """
        asked = self._spec.algorithm
        if checkpoint is None:
            check_masks(asked, masks)
            self.algorithm = trained_algorithm(asked, masks)
        else:
            self.algorithm = Algorithm(checkpoint.manifest.details.get(ALGORITHM, asked))
        if masks and not ALGORITHMS[self.algorithm].masks:  # of an earlier version, or the simulator had none
            self._progress.set_notice(
                "masks", "the run was begun without action masks, so it does not obey those that are declared now"
            )
        elif not masks:
            check_masks(self.algorithm, masks)
        self._progress.trained_algorithm = str(self.algorithm)
        if self.algorithm is not asked:
            log.info("action masks are declared", requested=str(asked), trained=str(self.algorithm))
            self.hyperparameters = for_algorithm(self.algorithm, self.hyperparameters)

    def make(
        self,
        environments: Environments,
        bare: VecEnv,
        checkpoint: Published | None,
        source: StartingPoint | None,
        demonstrations: DemonstrationFile | None,
    ) -> tuple[BaseAlgorithm, TrainingState | None]:
        """The model, and what else the checkpoint has. ``bare``: the environments of training, not wrapped.

        A new model takes over ``source``. Raises what :func:`exit_status_of` maps to an exit status.
        """
        adapter = space_adapter_of(bare)
        check_actions(self.algorithm, adapter.inner_action_space)
        if checkpoint is None:
            inner = adapter.inner_observation_space, adapter.inner_action_space
            check_hyperparameters(self.algorithm, self.hyperparameters, *inner)
        self._check_number_of_environments(bare.num_envs)
        spaces = adapter.observation_space, adapter.action_space
        learner = self.algorithm, self.hyperparameters, *spaces
        check_memory(*learner, bare.num_envs, self._settings.memory_bytes)
        if isinstance(pool := bare.unwrapped, PoolVecEnv):
            pool.take_at_most(most_environments(*learner, pool.most, self._settings.memory_bytes))
        self._check_demonstrations(demonstrations, adapter, bare)
        policy = choose_policy(self._spec.algorithm, self.hyperparameters.policy, adapter.observation_space)
        builder.set_threads(policy, self._settings.torch_threads)
        if checkpoint is None:
            DryRun(environments, self.algorithm, self.hyperparameters, policy).run(adapter)
            env = environments.wrap_training(bare)
            model: BaseAlgorithm = builder.build(self._class(), self.hyperparameters, policy, env, self._seed)
            self._start_from(source, model)
            state = None
        else:
            model, state = self._restored(environments, bare, checkpoint, policy)
        if isinstance(model, SelfTested):
            model.configuration = configuration_of(self._spec, self.algorithm, adapter)
        return model, state

    def _check_demonstrations(self, file: DemonstrationFile | None, adapter: SpaceAdapter, bare: VecEnv) -> None:
        """Raises InvalidDemonstrations if they are of another environment, or too large."""
        settings = self._spec.demonstrations
        if file is None or settings is None:
            return
        try:
            check_compatible(file, adapter, masks=declares_masks(bare))
            run = self.algorithm, self.hyperparameters, bare.num_envs
            check_memory_of_rows(file, adapter, *run, self._settings.memory_bytes)
        except InvalidDemonstrations as error:
            raise InvalidDemonstrations(f"demonstrations: {settings.file!r} does not fit: {error}") from error

    def _start_from(self, source: StartingPoint | None, model: BaseAlgorithm) -> None:
        """Takes over what the run is to start from. Raises CannotStartFrom."""
        start = self._spec.start_from
        if start is None or source is None:
            return
        # An optimizer has two numbers for each weight, SB3's zip the target networks too, and both some text.
        own = weights_of(model)
        largest = 4 * own.size + _SPARE_BYTES
        learned = read_source(source, start.take, largest, own.optimizers.keys())
        take_over(model, learned, start.take)
        log.info("weights taken over", source=source.name, take=list(start.take))

    def _restored(
        self, environments: Environments, bare: VecEnv, checkpoint: Published, policy: str
    ) -> tuple[BaseAlgorithm, TrainingState]:
        files = self._files_of(checkpoint)
        env = environments.wrap_training(bare, files.read_normalization)
        device = str(self.hyperparameters.keywords.get("device", builder.default_device(policy)))
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
        return class_of(self.algorithm, fast_update=self._settings.fast_update)

    def _check_number_of_environments(self, environments: int) -> None:
        for rule in (batch_conflict, buffer_conflict, frequency_conflict):
            if (conflict := rule(self.algorithm, self.hyperparameters, environments)) is not None:
                raise InvalidRun([conflict])

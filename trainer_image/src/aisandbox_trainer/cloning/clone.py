"""Behaviour cloning of one run: from its demonstrations to a model that acts like them.

Owns the order, the epochs and their minibatches. All that is random follows from the run's seed, and no other generator
is used, so a cloning that is begun anew ends in the same weights. Must not know checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog
import torch
from aisandbox_crds import Activity, CloningProgress, DemonstrationSettings, smallest_batch
from aisandbox_environment import InvalidDemonstrationFile
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize

from aisandbox_trainer import _sb3_internals
from aisandbox_trainer.algorithms.builder import algorithm_of
from aisandbox_trainer.algorithms.divergence import check_finite
from aisandbox_trainer.checkpoints.weights import set_statistics, statistics_of
from aisandbox_trainer.cloning.examples import Examples
from aisandbox_trainer.cloning.fit import own_spec
from aisandbox_trainer.cloning.losses import Loss, loss_of
from aisandbox_trainer.cloning.recorded_env import RecordedEnv, Seen, learn_statistics, look_at
from aisandbox_trainer.cloning.replay import fill_replay_buffer
from aisandbox_trainer.cloning.sequences import SequenceCloning
from aisandbox_trainer.environments.factory import env_of, space_adapter_of
from aisandbox_trainer.errors import InvalidDemonstrations
from aisandbox_trainer.runtime.progress import ProgressTracker
from aisandbox_trainer.runtime.stop import Stop

if TYPE_CHECKING:
    from aisandbox_environment import DemonstrationFile

LEARNING_RATE = 1e-3
"""Of Adam, unless the run has one."""

log = structlog.get_logger(__name__)


class Cloning:
    """The cloning of ``model`` from ``file``.

    ``wrap`` puts the wrappers of the run around bare environments. ``keep_statistics``: those of the model's
    VecNormalize were taken over from elsewhere, and stay.
    """

    def __init__(
        self,
        model: BaseAlgorithm,
        file: DemonstrationFile,
        settings: DemonstrationSettings,
        wrap: Callable[[VecEnv], VecEnv],
        seed: int,
        progress: ProgressTracker,
        stop: Stop,
        *,
        keep_statistics: bool = False,
    ) -> None:
        self._model = model
        self._file = file
        self._settings = settings
        self._wrap = wrap
        self._random = np.random.default_rng(seed)
        self._progress = progress
        self._stop = stop
        self._keep_statistics = keep_statistics

    def run(self) -> None:
        """Teaches the model. Raises InvalidDemonstrations, NonFiniteTraining, StopRequested, MemoryError, OSError."""
        file, epochs = self._file, self._settings.epochs
        self._check_minibatches()
        self._progress.activity = Activity.CLONING
        self._progress.cloning = CloningProgress(1, epochs, episodes=file.episodes, steps=file.steps)
        examples = self._examples()
        if isinstance(self._model, OffPolicyAlgorithm):
            fill_replay_buffer(self._model, examples)
        self._learn(examples)
        check_finite(self._model)
        log.info("cloned", episodes=file.episodes, steps=file.steps, loss=self._progress.cloning.loss)

    def _examples(self) -> Examples:
        adapter = space_adapter_of(env_of(self._model))
        try:
            recorded = self._file.read(own_spec(self._file, adapter), self._stop.check)
        except InvalidDemonstrationFile as error:
            raise InvalidDemonstrations(f"demonstrations: {self._settings.file!r} {error}") from error
        env = _sb3_internals.wrap_for(self._model, self._wrap(RecordedEnv(self._file, recorded, adapter)))
        own = self._model.get_vec_normalize_env()
        if own is not None and self._keep_statistics:
            replayed = unwrap_vec_normalize(env)
            assert replayed is not None  # noqa: S101 -- it has the wrappers of the run
            set_statistics(replayed, statistics_of(own))
        elif own is not None:
            set_statistics(own, statistics_of(learn_statistics(env, self._file.rows, self._stop.check)))
        off_policy = isinstance(self._model, OffPolicyAlgorithm)
        seen: Seen = look_at(env, recorded, original=off_policy, check=self._stop.check)
        return Examples(self._model, seen, recorded, adapter, self._stop.check)

    def _learn(self, examples: Examples) -> None:
        sequences: SequenceCloning | None = None
        if isinstance(self._model, RecurrentPPO):
            learner: Any = SequenceCloning(self._model, examples, self._settings.batch_size)
            sequences = learner
        else:
            learner = loss_of(self._model, examples)
        rate = self._settings.learning_rate or LEARNING_RATE
        optimizer = torch.optim.Adam(learner.parameters(), lr=rate)
        self._model.policy.set_training_mode(True)
        try:
            for epoch in range(1, self._settings.epochs + 1):
                self._show(epoch)
                batches = sequences.losses(self._random) if sequences else self._losses(learner, examples)
                total = 0.0
                for loss, steps in batches:
                    self._stop.check()
                    optimizer.zero_grad()
                    loss.backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
                    total += float(loss.detach()) * steps
                self._end_epoch(epoch, total / len(examples.steps))
        finally:
            self._model.policy.set_training_mode(False)
        optimizer.zero_grad()
        learner.finish()

    def _losses(self, learner: Loss, examples: Examples) -> Iterator[tuple[torch.Tensor, int]]:
        """One epoch: the mean loss of each minibatch, and how many steps it has."""
        learner.prepare(examples)
        order = self._random.permutation(examples.steps)
        count = min(-(-len(order) // self._settings.batch_size), len(order) // self._fewest)
        for rows in np.array_split(order, count):
            yield learner.of(examples.batch(rows)), len(rows)

    @property
    def _fewest(self) -> int:
        """How many steps a minibatch has at least."""
        return smallest_batch(algorithm_of(type(self._model)), self._model.policy_kwargs)

    def _check_minibatches(self) -> None:
        for name, given in (("batch_size", self._settings.batch_size), ("steps", self._file.steps)):
            if given < self._fewest:
                raise InvalidDemonstrations(
                    f"demonstrations: {self._settings.file!r}: {name} must be at least {self._fewest} with CrossQ, "
                    f"whose batch normalization needs more than one step at a time; it is {given}"
                )

    def _show(self, epoch: int) -> None:
        shown = self._progress.cloning
        if shown is not None:
            self._progress.cloning = replace(shown, epoch=epoch)

    def _end_epoch(self, epoch: int, loss: float) -> None:
        check_finite(self._model)
        shown = self._progress.cloning
        if shown is not None:
            self._progress.cloning = replace(shown, epoch=epoch, loss=loss)
        self._model.logger.record("demonstrations/loss", loss)
        self._model.logger.dump(step=epoch)

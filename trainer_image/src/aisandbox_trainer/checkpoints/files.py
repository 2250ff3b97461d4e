"""The files of a checkpoint's folder: what they hold, how they are written, how a model is restored from them.

Only trainers read checkpoints, since they hold pickles. Must not know when to save or where the folder is stored.
"""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from aisandbox_crds import EarlyStop, TrainingRunSpec, spec_to_json
from aisandbox_model_store import CHECKPOINT_ZIP
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from aisandbox_trainer import _sb3_internals
from aisandbox_trainer.algorithms.environment_count import fit_action_noise
from aisandbox_trainer.checkpoints import replay_file
from aisandbox_trainer.checkpoints.compatibility import load_pickle
from aisandbox_trainer.checkpoints.episodes import Episodes
from aisandbox_trainer.checkpoints.random_state import RandomState
from aisandbox_trainer.checkpoints.rollback import truncate_stored_episodes
from aisandbox_trainer.checkpoints.weights import STATISTICS, statistics_bytes
from aisandbox_trainer.errors import NotStorable
from aisandbox_trainer.lessons.lessons_env import plan_of
from aisandbox_trainer.lessons.plan import LessonState

REPLAY_BUFFER = "replay_buffer.bin"
NORMALIZATION = "vecnormalize.pkl"
STATE = "state.pkl"
SPEC = "trainingrun_spec.json"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class EvaluationResults:
    """The mean rewards that evaluations have shown so far, and the timesteps of the last one.

    ``lesson``: the one, from 0, whose training episodes decided on the best model. Pickled like TrainingState.
    """

    best_reward_mean: float | None = None
    last_reward_mean: float | None = None
    last_timesteps: int = 0
    lesson: int = 0


@dataclass(frozen=True, slots=True)
class EarlyStopping:
    """What the rules of ``stop_when`` have counted so far, and the one that was met.

    The first two count how many times in a row the mean return of training and of evaluation was reached.
    ``best_evaluation`` is the mean return of the best evaluation, after which there were
    ``evaluations_without_improvement``.
    """

    training_times: int = 0
    evaluation_times: int = 0
    best_evaluation: float | None = None
    evaluations_without_improvement: int = 0
    training_seconds: float = 0.0
    stop: EarlyStop | None = None


@dataclass(frozen=True, slots=True)
class TrainingState:
    """What is not in SB3's own zip. Pickled by the order of its fields, so new ones come last and have a default.

    ``saved_at`` are the timesteps when all that was due was last saved: at a stop, something may still be due. Without
    ``episodes`` (those in progress) new ones are started, for the reason ``restart_reason``. ``lessons``: where the run
    is in its lessons.
    """

    random: RandomState
    evaluation_results: EvaluationResults = field(default_factory=EvaluationResults)
    saved_at: int = 0
    episodes: Episodes | None = None
    restart_reason: str = ""
    early_stopping: EarlyStopping = field(default_factory=EarlyStopping)
    lessons: LessonState | None = None

    @classmethod
    def capture(
        cls,
        model: BaseAlgorithm,
        evaluation_results: EvaluationResults,
        saved_at: int,
        early_stopping: EarlyStopping | None = None,
    ) -> TrainingState:
        """The state now."""
        random = RandomState.capture(model.action_space, model.get_env())
        counted, plan = early_stopping or EarlyStopping(), plan_of(model.get_env())
        lessons = None if plan is None else plan.state
        try:
            episodes = Episodes.capture(model)
        except NotStorable as error:
            return cls(random, evaluation_results, saved_at, None, str(error), counted, lessons)
        return cls(random, evaluation_results, saved_at, episodes, "", counted, lessons)


def save(folder: Path, model: BaseAlgorithm, spec: TrainingRunSpec, state: TrainingState) -> None:
    """Writes every file of a checkpoint into ``folder``. Raises OSError."""
    try:
        _save(folder, model, spec, state)
    except RuntimeError as error:
        # torch's zip writer, closed after a failed write, raises only an error about its position.
        if (cause := _disk_error(error)) is not None:
            raise OSError(cause.errno, cause.strerror, cause.filename) from error
        raise


def _disk_error(error: BaseException | None) -> OSError | None:
    """The error of the disk that led to ``error``, if one did."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error


def _save(folder: Path, model: BaseAlgorithm, spec: TrainingRunSpec, state: TrainingState) -> None:
    # The last observations belong to the episodes.
    model.save(folder / CHECKPOINT_ZIP, exclude=_sb3_internals.LAST_OBSERVATION)
    normalize = model.get_vec_normalize_env()
    if normalize is not None:
        normalize.save(str(folder / NORMALIZATION))
        (folder / STATISTICS).write_bytes(statistics_bytes(normalize))
    if isinstance(model, OffPolicyAlgorithm) and model.replay_buffer is not None:
        replay_file.save(model, model.replay_buffer, folder / REPLAY_BUFFER)
    (folder / STATE).write_bytes(pickle.dumps(state))
    (folder / SPEC).write_text(json.dumps(spec_to_json(spec), indent=1))


@dataclass(frozen=True, slots=True)
class CheckpointFiles:
    """The files of a checkpoint, for :func:`load`.

    ``read`` returns the bytes of a file, verified after they were read: a file that is replaced meanwhile is not
    unpickled. ``has_pickled_replay_buffer``: an earlier version may have written it, with a pickle in it.
    """

    folder: Path
    read: Callable[[str], bytes]
    has_pickled_replay_buffer: bool = True

    @classmethod
    def in_folder(cls, folder: Path) -> CheckpointFiles:
        """Those of a folder that only this process writes."""
        return cls(folder, lambda name: (folder / name).read_bytes())

    def read_normalization(self, env: VecEnv) -> VecNormalize:
        """The stored VecNormalize on ``env``. Raises what :attr:`read` and unpickling raise."""
        normalize: VecNormalize = pickle.loads(self.read(NORMALIZATION))  # noqa: S301 - verified
        normalize.set_venv(env)
        return normalize


def load(
    files: CheckpointFiles, algorithm: type[BaseAlgorithm], env: Any, device: str
) -> tuple[BaseAlgorithm, TrainingState]:
    """The model as it was saved, on ``env``, which has the stored normalization already.

    The returned state has episodes if they continue, and none if new ones are started. Loading reseeds every
    generator; :meth:`RandomState.restore` with the returned state is to be called last.
    """
    model = algorithm.load(io.BytesIO(files.read(CHECKPOINT_ZIP)), env=env, device=device)
    _sb3_internals.set_last_observation(model, None)
    if isinstance(model, OffPolicyAlgorithm):
        fit_action_noise(model)
        if model.replay_buffer is not None:
            replay_file.load(
                model,
                model.replay_buffer,
                files.folder / REPLAY_BUFFER,
                read=partial(files.read, REPLAY_BUFFER),
                may_be_pickled=files.has_pickled_replay_buffer,
            )
    state: TrainingState = load_pickle(files.read(STATE))
    if (plan := plan_of(model.get_env())) is not None and state.lessons is not None:
        plan.restore(state.lessons)
    state = _continue_episodes(model, state)
    if state.episodes is None:
        truncate_stored_episodes(model)
    return model, state


def _continue_episodes(model: BaseAlgorithm, state: TrainingState) -> TrainingState:
    try:
        if state.episodes is not None:
            state.episodes.restore(model)
    except NotStorable as error:
        log.warning("new episodes are started", reason=str(error))
        return replace(state, episodes=None, restart_reason=str(error))
    return state

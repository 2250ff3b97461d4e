"""The dry run: a small model trains on synthetic observations and is exported, before the first real step.

What the contract allows and the libraries do not is then found in the first second, not at the first checkpoint. Uses
the classes, the wrappers and the export of the run; its model, environments and statistics are its own, and no random
generator is changed. Trainers of one fork server do it once for each configuration. Must not know the run's simulators.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym
import numpy as np
from aisandbox_crds import ALGORITHMS, Algorithm, Hyperparameters, TrainingRunSpec, has_parameter
from aisandbox_process.passed_checks import PASSED_CHECKS
from aisandbox_wire import MASKS_METHOD, MaskLayout, WireError, leaves, space_to_proto
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecEnv

from aisandbox_trainer.algorithms.builder import build, class_of
from aisandbox_trainer.algorithms.divergence import check_finite
from aisandbox_trainer.checkpoints.random_state import RandomState
from aisandbox_trainer.environments.factory import Environments
from aisandbox_trainer.environments.space_adapter import SpaceAdapter
from aisandbox_trainer.errors import DryRunFailed, TrainerError
from aisandbox_trainer.export.action_masks import sample_masks
from aisandbox_trainer.export.parity import check_parity
from aisandbox_trainer.training.policy_files import policy_files

Array = NDArray[Any]

ENVIRONMENTS = 2
_SMALL_ROLLOUT: Mapping[str, Any] = {"n_steps": 2, "batch_size": 4, "n_epochs": 1}
_SMALL_REPLAY: Mapping[str, Any] = {
    "buffer_size": 64, "learning_starts": 0, "batch_size": 4, "train_freq": 1, "gradient_steps": 1, "policy_delay": 1,
}  # fmt: skip
"""What makes a rollout and an update small, and does not change which code runs."""
_STEPS = 4
_PARITY_ELEMENTS = 4096
"""Up to so many numbers an observation, the ONNX file is run: by onnx's reference evaluator, which is slow."""


@dataclass(frozen=True, slots=True)
class DryRun:
    """What a run would train with."""

    environments: Environments
    algorithm: Algorithm
    hyperparameters: Hyperparameters
    policy: str

    def run(self, adapter: SpaceAdapter) -> None:
        """Builds, trains, exports and compares, on the CPU, unless that has passed for the same configuration.

        Raises DryRunFailed, naming the spaces, and the errors that say themselves what is wrong: TrainerError,
        WireError, MemoryError, OSError.
        """
        check = f"dry run of {configuration_of(self.environments.spec, self.algorithm, adapter)}"
        if check in PASSED_CHECKS:
            return
        before = RandomState.capture(adapter.action_space)
        try:
            self._run(SyntheticEnv(adapter, masks=ALGORITHMS[self.algorithm].masks))
        except (TrainerError, WireError, MemoryError, OSError):
            raise
        except Exception as error:
            if "can't allocate memory" in str(error):
                raise
            raise DryRunFailed(
                f"{self.algorithm} with {self.policy} cannot be trained on these spaces: observations "
                f"{adapter.inner_observation_space}, actions {adapter.inner_action_space} "
                f"({type(error).__name__}: {error})"
            ) from error
        finally:
            before.restore(adapter.action_space)
        PASSED_CHECKS.add(check)

    def _run(self, bare: SyntheticEnv) -> None:
        sizes = _SMALL_REPLAY if ALGORITHMS[self.algorithm].off_policy else _SMALL_ROLLOUT
        smaller = {name: value for name, value in sizes.items() if has_parameter(self.algorithm, name)}
        small = {**self.hyperparameters.keywords, **smaller, "device": "cpu"}
        model = build(
            class_of(self.algorithm, fast_update=False),  # the fast updates have a test and a fallback of their own
            replace(self.hyperparameters, keywords=small),
            self.policy,
            self.environments.wrap(bare),
            seed=0,
        )
        model.set_logger(Logger(None, []))
        try:
            model.learn(_STEPS)
            files = policy_files(model, self.hyperparameters.frame_stack)
            if sum(np.prod(leaf.shape or (1,)) for leaf in _leaves(model.observation_space)) <= _PARITY_ELEMENTS:
                check_parity(files)
        except Exception:
            check_finite(model)  # then it is not the spaces
            raise


def configuration_of(spec: TrainingRunSpec, algorithm: Algorithm, adapter: SpaceAdapter) -> str:
    """All that decides which code trains a run and exports its policy: algorithm, hyperparameters and spaces.

    ``algorithm``: the one that is trained.
    """
    spaces_as_sent = adapter.inner_observation_space, adapter.inner_action_space
    texts = [space_to_proto(space).SerializeToString(deterministic=True).hex() for space in spaces_as_sent]
    return json.dumps([algorithm, dict(spec.hyperparameters), *texts], sort_keys=True)


class SyntheticEnv(VecEnv):
    """Environments with an adapter's spaces that return random values, and end an episode every other step.

    ``masks``: they have random action masks.
    """

    def __init__(self, adapter: SpaceAdapter, masks: bool = False) -> None:
        self._adapter = adapter
        (action,) = leaves(space_to_proto(adapter.inner_action_space))
        self._mask_layout = MaskLayout.of(action) if masks else None
        # Copies: VecNormalize changes the space it is given, and a model seeds that of its actions.
        super().__init__(ENVIRONMENTS, copy.deepcopy(adapter.observation_space), copy.deepcopy(adapter.action_space))
        self._random = np.random.default_rng(0)
        self._steps = 0
        self._actions: Any = None

    def reset(self) -> Any:
        """Observations of all environments."""
        return self._observation()

    def step_async(self, actions: Array) -> None:
        """Takes any actions that the adapter can translate."""
        self._actions = self._adapter.action(actions)

    def step_wait(self) -> tuple[Any, Array, Array, list[dict[str, Any]]]:
        """Random values."""
        self._steps += 1
        ended = self._steps % 2 == 0
        observation = self._observation()
        infos: list[dict[str, Any]] = [{} for _ in range(ENVIRONMENTS)]
        if ended:
            finals = self._observation()
            for row in range(ENVIRONMENTS):
                final = {k: v[row] for k, v in finals.items()} if isinstance(finals, dict) else finals[row]
                infos[row] = {"terminal_observation": final, "TimeLimit.truncated": True}
        rewards = self._random.standard_normal(ENVIRONMENTS).astype(np.float32)
        return observation, rewards, np.full(ENVIRONMENTS, ended), infos

    def close(self) -> None:
        """Nothing is held."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The adapter and the render mode. Raises AttributeError for others."""
        known = {"space_adapter": self._adapter, "render_mode": None}
        if self._mask_layout is not None and attr_name == MASKS_METHOD:
            return list(sample_masks(self._mask_layout.counts, ENVIRONMENTS, self._random).astype(bool))
        if attr_name not in known:
            raise AttributeError(attr_name)
        return [known[attr_name]] * ENVIRONMENTS

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Not possible. Raises AttributeError."""
        raise AttributeError(attr_name)

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        """The masks. Raises AttributeError for others."""
        if method_name != MASKS_METHOD:
            raise AttributeError(method_name)
        return self.get_attr(method_name, indices)

    def env_is_wrapped(self, wrapper_class: type[Any], indices: Any = None) -> list[bool]:
        """Never."""
        return [False] * ENVIRONMENTS

    def _observation(self) -> Any:
        inner: Any = self._adapter.inner_observation_space
        if isinstance(inner, spaces.Dict):
            made: Any = {key: _values(space, self._random) for key, space in inner.spaces.items()}
        else:
            made = _values(inner, self._random)
        return self._adapter.observation(made)


def _values(space: Any, random: np.random.Generator) -> Array:
    """A value of ``space`` for each environment, [ENVIRONMENTS, *shape]."""
    if isinstance(space, spaces.Discrete):
        return random.integers(space.start, space.start + space.n, ENVIRONMENTS)
    if isinstance(space, spaces.MultiDiscrete):
        return random.integers(0, space.nvec, (ENVIRONMENTS, len(space.nvec)))
    if isinstance(space, spaces.MultiBinary):
        return random.integers(0, 2, (ENVIRONMENTS, *space.shape)).astype(np.int8)
    shape = (ENVIRONMENTS, *space.shape)
    whole = np.issubdtype(space.dtype, np.integer)
    made = random.integers(0, 100, shape) if whole else random.standard_normal(shape)
    return np.clip(made, space.low, space.high).astype(space.dtype)


def _leaves(space: gym.Space[Any]) -> Sequence[gym.Space[Any]]:
    return list(space.spaces.values()) if isinstance(space, spaces.Dict) else [space]

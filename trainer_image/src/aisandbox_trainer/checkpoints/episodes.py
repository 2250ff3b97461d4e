"""The episodes in progress, as a value that can be stored: with it, a resumed run continues in the middle of them.

Owns what of environments in this process is state. Each layer of an environment (the wrappers, and the environment
itself) is stored as its attributes, and is restored into a newly made layer; functions, classes and the registered
spec are taken from the new one, since they define the environment and are not its state. An environment that pickle
cannot store (a socket, a native handle), and a simulator, start a new episode instead. So does one whose state is kept
outside its attributes; that cannot be detected here. Must not know algorithms or files.
"""

from __future__ import annotations

import copy
import io
import pickle
import types
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecEnv,
    VecEnvWrapper,
    VecFrameStack,
    VecNormalize,
)
from stable_baselines3.common.vec_env.stacked_observations import StackedObservations

from aisandbox_trainer import _sb3_contrib_internals, _sb3_internals
from aisandbox_trainer.checkpoints.compatibility import CompatibleUnpickler, current_attributes, current_class_name
from aisandbox_trainer.errors import NotStorable

_FIXED = (EnvSpec, type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType)
_HISTORY = frozenset({"episode_returns", "episode_lengths", "episode_times", "t_start"})
"""What a Monitor keeps of all finished episodes: it is not used, and it grows without bound."""


@dataclass(frozen=True, slots=True)
class Episodes:
    """The environments' attributes as a pickle, what the wrappers around them hold, and the last observation.

    Pickled by the order of its fields, so new ones come last; a checkpoint of an earlier version lacks them.
    ``last_observation`` is [environments, ...] or a dict of such arrays, ``started`` [environments] of bool,
    ``returns`` [environments] the discounted returns of VecNormalize, ``lstm_state`` that of a recurrent policy.
    """

    environments: bytes
    frames: Any
    returns: Any
    last_observation: Any
    last_original_observation: Any
    started: Any
    lstm_state: _sb3_contrib_internals.LstmState | None = None

    @classmethod
    def capture(cls, model: BaseAlgorithm) -> Episodes:
        """The episodes now, between two steps. Raises NotStorable."""
        layers = _layers(model.get_env())
        try:
            environments = _pickled(layers)
        except Exception as error:  # an attribute may be anything
            raise NotStorable(f"the environment cannot be stored: {type(error).__name__}: {error}") from error
        last = _sb3_internals.last_observation(model)
        if last is None:
            raise NotStorable("no episodes are in progress")
        normalize, stack = _wrapper(model, VecNormalize), _wrapper(model, VecFrameStack)
        return cls(
            environments=environments,
            frames=None if stack is None else copy.deepcopy(_frames(stack.stacked_obs)),
            returns=None if normalize is None else normalize.returns.copy(),
            last_observation=copy.deepcopy(last.normalized),
            last_original_observation=copy.deepcopy(last.original),
            started=copy.deepcopy(last.episode_starts),
            lstm_state=_sb3_contrib_internals.lstm_state(model),
        )

    def restore(self, model: BaseAlgorithm) -> None:
        """Restores the episodes into the model's environments. Raises NotStorable; then nothing is changed."""
        env = model.get_env()
        layers = _layers(env)
        names, states = self._unpickled(layers)
        if names != _names(layers):
            raise NotStorable("the environments are not those that were stored")
        for layer, state in zip((layer for one in layers for layer in one), states, strict=True):
            _set_attributes(layer, state)
        # SB3 draws from the space of the first environment, which may do so itself.
        bare: Any = env.unwrapped if env is not None else None
        model.action_space = bare.action_space = layers[0][0].action_space
        normalize, stack = _wrapper(model, VecNormalize), _wrapper(model, VecFrameStack)
        if normalize is not None:
            normalize.returns = self.returns.copy()
        if stack is not None:
            _set_frames(stack.stacked_obs, self.frames)
        last = _sb3_internals.LastObservation(self.last_observation, self.last_original_observation, self.started)
        _sb3_internals.set_last_observation(model, copy.deepcopy(last))
        if (lstm_state := getattr(self, "lstm_state", None)) is not None:
            _sb3_contrib_internals.set_lstm_state(model, lstm_state)

    def _unpickled(self, layers: list[list[Any]]) -> tuple[list[list[str]], list[dict[str, Any]]]:
        try:
            stored_names, states = _Unpickler(self.environments, layers).load()
        except Exception as error:  # the environment's own code may have changed
            raise NotStorable(f"the environment cannot be restored: {type(error).__name__}: {error}") from error
        names = [[current_class_name(name) for name in one] for one in stored_names]
        flat = (name for one in names for name in one)
        return names, [current_attributes(name, state) for name, state in zip(flat, states, strict=True)]


def in_this_process(env: VecEnv | None) -> bool:
    """Whether the environments are objects of this process, so that their episodes might be stored."""
    return env is not None and isinstance(env.unwrapped, DummyVecEnv)


def _layers(env: VecEnv | None) -> list[list[Any]]:
    """For each environment its wrappers, outermost first, and itself."""
    if env is None or not in_this_process(env):
        raise NotStorable("the episodes are in the simulator")
    bare: Any = env.unwrapped
    return [_layers_of(one) for one in bare.envs]


def _layers_of(env: Any) -> list[Any]:
    layers = [env]
    while isinstance(layers[-1], gym.Wrapper):
        layers.append(layers[-1].env)
    return layers


def _names(layers: list[list[Any]]) -> list[list[str]]:
    return [[f"{type(layer).__module__}.{type(layer).__qualname__}" for layer in one] for one in layers]


def _is_fixed(layer: Any, name: str, value: Any) -> bool:
    return isinstance(value, _FIXED) or (name in _HISTORY and isinstance(layer, Monitor))


def _pickled(layers: list[list[Any]]) -> bytes:
    """One pickle of all, so that what environments share stays shared."""
    states = [
        {name: value for name, value in vars(layer).items() if not _is_fixed(layer, name, value)}
        for one in layers
        for layer in one
    ]
    file = io.BytesIO()
    _Pickler(file, layers).dump((_names(layers), states))
    return file.getvalue()


class _Pickler(pickle.Pickler):
    """Writes a reference to a layer as its index."""

    def __init__(self, file: io.BytesIO, layers: list[list[Any]]) -> None:
        super().__init__(file, protocol=5)
        self._indices = {id(layer): (i, j) for i, one in enumerate(layers) for j, layer in enumerate(one)}

    def persistent_id(self, obj: Any) -> tuple[int, int] | None:
        return self._indices.get(id(obj))


class _Unpickler(CompatibleUnpickler):
    """Reads an index as the layer there."""

    def __init__(self, data: bytes, layers: list[list[Any]]) -> None:
        super().__init__(io.BytesIO(data))
        self._layers = layers

    def persistent_load(self, pid: Any) -> Any:
        i, j = pid
        return self._layers[i][j]


def _set_attributes(layer: Any, state: dict[str, Any]) -> None:
    attributes = vars(layer)
    for name in [name for name, value in attributes.items() if not _is_fixed(layer, name, value)]:
        del attributes[name]
    attributes.update(state)


def _wrapper(model: BaseAlgorithm, kind: type[Any]) -> Any:
    env = model.get_env()
    while isinstance(env, VecEnvWrapper):
        if isinstance(env, kind):
            return env
        env = env.venv
    return None


def _frames(stacked: StackedObservations[Any]) -> Any:
    """The frames as an array, or as a dict of arrays."""
    parts = getattr(stacked, "sub_stacked_observations", None)
    return stacked.stacked_obs if parts is None else {key: _frames(part) for key, part in parts.items()}


def _set_frames(stacked: StackedObservations[Any], frames: Any) -> None:
    parts = getattr(stacked, "sub_stacked_observations", None)
    if parts is None:
        stacked.stacked_obs = frames.copy()
    else:
        for key, part in parts.items():
            _set_frames(part, frames[key])

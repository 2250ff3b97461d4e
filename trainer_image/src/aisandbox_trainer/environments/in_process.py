"""Environments that live in the trainer's process: Gymnasium ids and external adapters.

Owns their wrapping so that SB3 sees the same spaces as over the wire. Must not know gRPC.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from aisandbox_environment import (
    ExternalEnvAdapter,
    Parameter,
    ParameterValue,
    gymnasium_parameters,
    make_spec,
    reset_adapter,
)
from aisandbox_wire import (
    MASKS_METHOD,
    InvalidValue,
    Leaf,
    MaskLayout,
    cast_exactly,
    leaves,
    space_from_proto,
    space_to_proto,
)
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from aisandbox_trainer import _sb3_internals
from aisandbox_trainer.environments.space_adapter import SpaceAdapter
from aisandbox_trainer.errors import InvalidEnvironmentReply, UnknownEnvironment

Env = gym.Env[Any, Any]


class AdaptedEnv(gym.Wrapper[Any, Any, Any, Any]):
    """An environment with the spaces of :class:`SpaceAdapter`; refuses values that are not in its own.

    Only the bounds of a Box are not checked.
    """

    _leaves: Sequence[tuple[Leaf, str]] | None = None
    """Made when it is first used: an environment restored from a checkpoint of an earlier version has none."""
    _parameters: Mapping[str, ParameterValue] | None = None
    """Those of the next episode; on the class for the same reason."""

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.space_adapter = SpaceAdapter(env.observation_space, env.action_space)
        self.observation_space = self.space_adapter.observation_space
        self.action_space = self.space_adapter.action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Starts an episode."""
        if options is None and self._parameters is not None:
            options = dict(self._parameters)
        observation, info = self.env.reset(seed=seed, options=options)
        return self._checked(observation), info

    def declared_parameters(self) -> Sequence[Parameter]:
        """The parameters that lessons may set. Raises InvalidSpace."""
        inner = self.env.unwrapped
        return inner.parameters if isinstance(inner, AdapterEnv) else gymnasium_parameters(self.env)

    def set_parameters(self, values: Mapping[str, ParameterValue]) -> None:
        """From the next reset on, episodes have these parameters."""
        self._parameters = values

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Takes an action SB3 chose. Raises InvalidEnvironmentReply."""
        inner, space = self.space_adapter.action(action), self.env.action_space
        if isinstance(space, gym.spaces.Box) and inner.dtype != space.dtype:  # float16, which is float32 elsewhere
            inner = inner.astype(space.dtype)
        result: tuple[Any, Any, bool, bool, dict[str, Any]] = self.env.step(inner)
        observation, reward, terminated, truncated, info = result
        if not (isinstance(reward, SupportsFloat) and math.isfinite(reward)):
            raise InvalidEnvironmentReply(f"the environment returned a reward of {reward}")
        return self._checked(observation), float(reward), terminated, truncated, info

    def _checked(self, observation: Any) -> Any:
        space: Any = self.env.observation_space
        if not isinstance(space, gym.spaces.Dict):
            _check_shape("observation", observation, space)
        elif not isinstance(observation, dict) or observation.keys() != space.spaces.keys():
            keys = list(observation) if isinstance(observation, dict) else type(observation).__name__
            raise InvalidEnvironmentReply(
                f"the environment returned the observation {keys}; its space is a Dict of {list(space.spaces)}"
            )
        else:
            for key, inner in space.spaces.items():
                _check_shape(f"observation[{key!r}]", observation[key], inner)
        if self._leaves is None:
            self._leaves = _named_leaves(self.space_adapter.inner_observation_space)
        try:
            for leaf, name in self._leaves:
                _check_elements(leaf, observation[leaf.key] if leaf.key else observation, name)
        except InvalidValue as error:
            raise InvalidEnvironmentReply(f"the environment returned {error}") from None
        return self.space_adapter.observation(observation)


def _named_leaves(space: gym.Space[Any]) -> Sequence[tuple[Leaf, str]]:
    found = leaves(space_to_proto(space))
    return [(leaf, f"observation[{leaf.key!r}]" if leaf.key else "observation") for leaf in found]


def _check_elements(leaf: Leaf, value: Any, name: str) -> None:
    """Raises InvalidValue for elements that are not finite, outside of a Discrete, or that the dtype cannot hold."""
    leaf.check_elements(cast_exactly(value, leaf.dtype, name), name)


def _check_shape(name: str, value: Any, space: Any) -> None:
    """Raises InvalidEnvironmentReply for a shape that SB3 would fail on, or broadcast silently."""
    if np.shape(value) != space.shape:
        raise InvalidEnvironmentReply(
            f"the environment returned an {name} of shape {np.shape(value)}; its space has {space.shape}"
        )


class AdapterEnv(gym.Env[Any, Any]):
    """An ExternalEnvAdapter as a Gymnasium environment."""

    def __init__(self, adapter: ExternalEnvAdapter) -> None:
        self._adapter = adapter
        self._seeded = False
        self.observation_space = space_from_proto(adapter.observation_space)
        self.action_space = space_from_proto(adapter.action_space)

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """What the adapter declares. Raises InvalidSpace."""
        return make_spec(
            self._adapter.observation_space,
            self._adapter.action_space,
            parameters=getattr(self._adapter, "parameters", ()),
        ).parameters

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Starts an episode; the first one is always seeded, so that a restored generator decides what is played."""
        super().reset(seed=seed)
        if seed is None and not self._seeded:
            seed = int(self.np_random.integers(2**31))
        self._seeded = True
        return reset_adapter(self._adapter, seed, options or {}), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One step of the adapter."""
        return self._adapter.step(np.asarray(action))

    def close(self) -> None:
        """Closes the adapter."""
        self._adapter.close()


_WHERE_MODULES_ARE = (
    "Trainers import installed modules and those in the folders of PYTHONPATH, and none from the folder that the "
    "service was started in unless PYTHONPATH names it"
)


def gymnasium_env(env_id: str, kwargs: Mapping[str, Any]) -> Env:
    """``gymnasium.make``, with its many errors as one. Raises UnknownEnvironment."""
    try:
        return gym.make(env_id, **kwargs)
    except Exception as error:  # an environment's constructor may raise anything
        said = str(error)
        if isinstance(error, ModuleNotFoundError):
            said = f"{said.rstrip('.')}. {_WHERE_MODULES_ARE}"
        raise UnknownEnvironment(
            f"environment.gymnasium.id {env_id!r} cannot be made: {type(error).__name__}: {said}"
        ) from error


class InProcessVecEnv(DummyVecEnv):
    """Environments that step one after the other; those with the method ``action_masks`` have masks."""

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        """The results of a method; of ``action_masks``, bool [size] each.

        Raises InvalidEnvironmentReply, with the environment's number, for what is no mask of the actions.
        """
        if method_name != MASKS_METHOD:
            return super().env_method(method_name, *method_args, indices=indices, **method_kwargs)
        try:
            results: list[Any] = super().env_method(method_name, *method_args, indices=indices, **method_kwargs)
        except TypeError as error:
            if all(map(callable, self.get_attr(MASKS_METHOD))):
                raise
            raise InvalidEnvironmentReply(f"{MASKS_METHOD} of the environment must be a method") from error
        numbers = _sb3_internals.numbers_of(self, indices)
        return [self._checked_mask(number, mask) for number, mask in zip(numbers, results, strict=True)]

    def _checked_mask(self, number: int, mask: Any) -> Any:
        try:
            read = self._mask_layout.read(mask, f"{MASKS_METHOD} of environment {number}")
            self._mask_layout.check(read[np.newaxis], MASKS_METHOD, "environment", number)
        except InvalidValue as error:
            raise InvalidEnvironmentReply(f"the environment returned {error}") from None
        return read

    @functools.cached_property
    def _mask_layout(self) -> MaskLayout:
        (action,) = leaves(space_to_proto(self.action_space))
        return MaskLayout.of(action)


def vectorized(make: Callable[[], Env], number: int) -> DummyVecEnv:
    """``number`` environments that step one after the other in this process, with episode statistics."""
    return InProcessVecEnv([lambda: Monitor(AdaptedEnv(make()))] * number)

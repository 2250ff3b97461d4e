"""A simulation made of adapters: one object for each environment of a session.

Owns the restart of environments whose episode ended (same-step autoreset). Must not know gRPC or what is adapted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from aisandbox_wire import MASKS_METHOD, Array, Leaf, cast_exactly

from aisandbox_environment.adapters import ExternalEnvAdapter, Observation
from aisandbox_environment.errors import InvalidOptions
from aisandbox_environment.parameters import ParameterValue
from aisandbox_environment.simulation import NO_EPISODE_ENDED, ResetResult, StepResult
from aisandbox_environment.spec import Spec, make_spec

AdapterFactory = Callable[[], ExternalEnvAdapter]
"""Makes one environment; called once for each environment of each session."""


class AdapterSimulation:
    """A simulation whose environments ``factory`` makes; ``create_environment_server`` serves it.

    Makes one adapter to read its spaces, and closes it. ``name`` is for people; the default is the adapter's class.
    Raises InvalidSpace if the spaces break a rule.
    """

    version = ""

    def __init__(self, factory: AdapterFactory, name: str = "") -> None:
        self._factory = factory
        adapter = factory()
        try:
            self.spec = _spec(adapter)
            self.name = name or type(adapter).__name__
        finally:
            adapter.close()

    def make(self, environments: int, options: Mapping[str, Any]) -> AdapterBatch:
        """See Simulation."""
        if options:
            raise InvalidOptions(f"{next(iter(options))!r} is unknown: this simulation takes no options")
        adapters: list[ExternalEnvAdapter] = []
        try:
            for _ in range(environments):
                adapters.append(self._factory())  # noqa: PERF401 -- if one fails, those made before it are closed
        except BaseException:
            for adapter in adapters:
                adapter.close()
            raise
        return AdapterBatch(self.spec, adapters)


class AdapterBatch:
    """Adapters stepped one after the other."""

    def __init__(self, spec: Spec, adapters: Sequence[ExternalEnvAdapter]) -> None:
        self.spec = spec
        self._adapters = adapters
        self._buffers = ObservationBuffers(spec, len(adapters))
        self._rewards = np.zeros(len(adapters), np.float32)
        self._terminated = np.zeros(len(adapters), np.bool_)
        self._truncated = np.zeros(len(adapters), np.bool_)
        self._parameters: list[Mapping[str, ParameterValue]] = [{}] * len(adapters)
        self._has_masks = all(hasattr(adapter, MASKS_METHOD) for adapter in adapters)

    def set_parameters(self, environment: int, values: Mapping[str, ParameterValue]) -> None:
        """See ParameterizedBatch."""
        self._parameters[environment] = values

    def reset(self, seeds: Sequence[int] | None) -> ResetResult:
        """See SimulationBatch."""
        for i in range(len(self._adapters)):
            self._buffers.put(i, self._reset(i, seeds[i] if seeds else None))
        return ResetResult(self._buffers.arrays, self._allowed())

    def step(self, actions: Array) -> StepResult:
        """See SimulationBatch."""
        actions = np.array(actions)  # the request's array is read-only, and some environments clip an action in place
        ended: list[int] = []
        finals: list[Observation] = []
        for i, adapter in enumerate(self._adapters):
            observation, self._rewards[i], terminated, truncated, _ = adapter.step(actions[i])
            self._terminated[i], self._truncated[i] = terminated, truncated
            if terminated or truncated:
                ended.append(i)
                # A copy: an adapter may write its next observation into the array of the last one.
                finals.append(copied(observation))
                observation = self._reset(i, None)
            self._buffers.put(i, observation)
        return StepResult(
            self._buffers.arrays,
            self._rewards,
            self._terminated,
            self._truncated,
            np.array(ended, np.intp) if ended else NO_EPISODE_ENDED,
            self._buffers.stack(finals),
            self._allowed(),
        )

    def close(self) -> None:
        """See SimulationBatch."""
        for adapter in self._adapters:
            adapter.close()

    def _allowed(self) -> Array | None:
        if not self._has_masks:
            return None
        return read_masks(self.spec, (getattr(adapter, MASKS_METHOD) for adapter in self._adapters))

    def _reset(self, environment: int, seed: int | None) -> Observation:
        return reset_adapter(self._adapters[environment], seed, self._parameters[environment])


def reset_adapter(
    adapter: ExternalEnvAdapter, seed: int | None, parameters: Mapping[str, ParameterValue]
) -> Observation:
    """The first observation of an episode with these parameters; where there are none, it has the defaults."""
    if not parameters:
        return adapter.reset(seed)
    first: Observation = adapter.reset(seed, parameters=dict(parameters))  # type: ignore[call-arg]
    return first


def read_masks(spec: Spec, methods: Iterable[Callable[[], Any]]) -> Array:
    """What environments allow now, bool [N, mask_width], by their methods ``action_masks``.

    Raises InvalidValue, with the number of the environment, for what is no mask of the actions.
    """
    layout = spec.mask_layout
    return np.stack([layout.read(mask(), f"{MASKS_METHOD}() of environment {i}") for i, mask in enumerate(methods)])


class ObservationBuffers:
    """The observations of N environments, one array [N, *shape] a leaf."""

    def __init__(self, spec: Spec, environments: int) -> None:
        self._leaves = spec.observation_leaves
        self._is_dict = spec.observation_space.WhichOneof("kind") == "dict"
        self._dtype = self._leaves[0].dtype
        self.arrays = [np.zeros((environments, *leaf.shape), leaf.dtype) for leaf in self._leaves]

    def put(self, environment: int, observation: Any) -> None:
        """Copy the observation of one environment into its row. Raises InvalidValue for what its dtype cannot hold."""
        if not self._is_dict:
            if not isinstance(observation, np.ndarray) or observation.dtype != self._dtype:
                observation = cast_exactly(observation, self._dtype, "observation")
            self.arrays[0][environment] = observation
            return
        for leaf, array in zip(self._leaves, self.arrays, strict=True):
            array[environment] = cast_exactly(observation[leaf.key], leaf.dtype, _name(leaf))

    def stack(self, observations: Sequence[Any]) -> list[Array]:
        """Observations as one array [K, *shape] a leaf; none if there are none."""
        if not observations:
            return []
        if not self._is_dict:
            return [cast_exactly(observations, self._leaves[0].dtype, "final observation")]
        return [
            cast_exactly([observation[leaf.key] for observation in observations], leaf.dtype, f"final {_name(leaf)}")
            for leaf in self._leaves
        ]


def _name(leaf: Leaf) -> str:
    return f"observation[{leaf.key!r}]"


def copied(observation: Any) -> Any:
    """A copy of an observation."""
    if isinstance(observation, Mapping):
        return {key: np.array(value) for key, value in observation.items()}
    return np.array(observation)


def _spec(adapter: ExternalEnvAdapter) -> Spec:
    return make_spec(
        adapter.observation_space,
        adapter.action_space,
        action_masks=hasattr(adapter, MASKS_METHOD),
        max_episode_steps=getattr(adapter, "max_episode_steps", 0),
        parameters=getattr(adapter, "parameters", ()),
    )

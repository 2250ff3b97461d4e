"""Serves any Gymnasium environment as a simulation. Needs the extra ``gymnasium``.

An environment declares parameters of its episodes in its metadata, and gets them as the options of ``reset``::

    metadata = {"parameters": {"distance": {"default": 10.0, "minimum": 1.0, "maximum": 30.0}}}

Owns the batch that steps N environments one after the other with same-step autoreset. Must not know gRPC beyond
starting a server.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from aisandbox_wire import MASKS_METHOD, Array, WireError, space_to_proto

from aisandbox_environment.adapter_host import ObservationBuffers, copied, read_masks
from aisandbox_environment.errors import InvalidOptions
from aisandbox_environment.parameters import Parameter, ParameterValue, parameters_from_metadata
from aisandbox_environment.server import EnvironmentServer, create_environment_server
from aisandbox_environment.simulation import NO_EPISODE_ENDED, ResetResult, StepResult
from aisandbox_environment.spec import Spec, make_spec

BUILT_IN = ("gymnasium.envs.classic_control", "gymnasium.envs.toy_text")
"""The modules of Gymnasium's environments that are made in a moment and need nothing but NumPy."""


def builtin_spec(id: str, make_kwargs: Mapping[str, Any] | None = None) -> Spec | None:  # noqa: A002 -- Gymnasium's word
    """The spec of an environment of BUILT_IN, or None for every other: to make it would run code of others.

    Raises InvalidOptions for keyword arguments that the environment does not take.
    """
    registered = gym.registry.get(id)
    if registered is None or not str(registered.entry_point).startswith(BUILT_IN):
        return None
    return GymnasiumSimulation(id, make_kwargs).spec


class GymnasiumSimulation:
    """Environments registered as ``id`` ("CartPole-v1", or "package.module:Name-v0" to import their module first).

    ``make_kwargs``: keyword arguments of ``gymnasium.make``; a session's options override them. Raises
    InvalidOptions if ``gymnasium.make`` refuses them or the id, InvalidSpace if a space has no wire format.
    """

    version = f"gymnasium {gym.__version__}"

    def __init__(self, id: str, make_kwargs: Mapping[str, Any] | None = None) -> None:  # noqa: A002 -- Gymnasium's word
        self.name = id
        self._make_kwargs = dict(make_kwargs or {})
        environment = self._make_one({})
        try:
            self.spec = _spec(environment)
        finally:
            environment.close()

    def make(self, environments: int, options: Mapping[str, Any]) -> GymnasiumBatch:
        """See Simulation; ``options`` are keyword arguments of ``gymnasium.make``."""
        made = []
        try:
            for _ in range(environments):
                made.append(self._make_one(options))  # noqa: PERF401 -- if one fails, those made before it are closed
            return GymnasiumBatch(made)
        except WireError as error:
            _close(made)
            raise InvalidOptions(f"they give a space without a wire format: {error}") from None
        except BaseException:
            _close(made)
            raise

    def _make_one(self, options: Mapping[str, Any]) -> gym.Env[Any, Any]:
        kwargs = {**self._make_kwargs, **options}
        try:
            # A copy: gymnasium.spec returns the registered object. The batch below resets before it steps, and steps
            # no environment that has ended; Gymnasium's checks of that order would cost time in every step.
            module, _, name = self.name.rpartition(":")
            if module:  # gymnasium.spec does not import it, as gymnasium.make would
                importlib.import_module(module)
            spec = copy.deepcopy(gym.spec(name))
            spec.order_enforce = False
            return gym.make(spec, disable_env_checker=True, **kwargs)
        except (TypeError, ValueError, AssertionError, gym.error.Error, ImportError) as error:
            given = f", **{kwargs}" if kwargs else ""
            raise InvalidOptions(f"gymnasium.make({self.name!r}{given}) failed: {error}") from error


class GymnasiumBatch:
    """Environments of Gymnasium, stepped one after the other."""

    def __init__(self, environments: Sequence[gym.Env[Any, Any]]) -> None:
        self.spec = _spec(environments[0])
        self._environments = environments
        self._convert = _converter(environments[0].action_space)
        n = len(environments)
        self._buffers = ObservationBuffers(self.spec, n)
        self._rewards: list[SupportsFloat] = [0.0] * n
        self._terminated = [False] * n
        self._truncated = [False] * n
        self._options: list[dict[str, Any] | None] = [None] * n

    def set_parameters(self, environment: int, values: Mapping[str, ParameterValue]) -> None:
        """See ParameterizedBatch."""
        self._options[environment] = dict(values)

    def reset(self, seeds: Sequence[int] | None) -> ResetResult:
        """See SimulationBatch."""
        for i, environment in enumerate(self._environments):
            seed = seeds[i] if seeds else None
            self._buffers.put(i, environment.reset(seed=seed, options=self._options_of(i))[0])
        return ResetResult(self._buffers.arrays, self._masks())

    def step(self, actions: Array) -> StepResult:
        """See SimulationBatch."""
        rewards, terminated, truncated = self._rewards, self._terminated, self._truncated
        put = self._buffers.put
        ended: list[int] = []
        finals: list[Any] = []
        for i, (environment, action) in enumerate(zip(self._environments, self._convert(actions), strict=True)):
            observation, rewards[i], terminated[i], truncated[i], _ = environment.step(action)
            if terminated[i] or truncated[i]:
                ended.append(i)
                # A copy: an environment may write its next observation into the array of the last one.
                finals.append(copied(observation))
                observation = environment.reset(options=self._options_of(i))[0]
            put(i, observation)
        return StepResult(
            self._buffers.arrays,
            np.array(rewards, np.float32),
            np.array(terminated, np.bool_),
            np.array(truncated, np.bool_),
            np.array(ended, np.intp) if ended else NO_EPISODE_ENDED,
            self._buffers.stack(finals),
            self._masks(),
        )

    def close(self) -> None:
        """See SimulationBatch."""
        _close(self._environments)

    def _options_of(self, environment: int) -> dict[str, Any] | None:
        """A copy: an environment may take entries out of its options, which are those of later episodes too."""
        options = self._options[environment]
        return None if options is None else dict(options)

    def _masks(self) -> Array | None:
        """What the environments allow now, [N, mask_width]; None if they have no masks."""
        if not self.spec.action_masks:
            return None
        return read_masks(self.spec, (each.get_wrapper_attr(MASKS_METHOD) for each in self._environments))


def host_gymnasium(
    id: str,  # noqa: A002 -- Gymnasium's word
    capacity: int = 0,
    host: str = "127.0.0.1",
    port: int = 0,
    make_kwargs: Mapping[str, Any] | None = None,
    on_ready: Callable[[EnvironmentServer], None] | None = None,
    reply_timeout: float = 0.0,
) -> None:
    """Serve ``id`` until the server is stopped; ``on_ready`` gets the server once it answers calls.

    ``capacity`` and ``reply_timeout`` are those of :func:`create_environment_server`. Raises InvalidOptions,
    InvalidSpace, InvalidValue for a wrong ``reply_timeout``, and OSError if the port is in use. KeyboardInterrupt, and
    whatever a signal handler raises, stops the server and is raised again.
    """
    simulation = GymnasiumSimulation(id, make_kwargs)
    server = create_environment_server(simulation, host, port, capacity, reply_timeout=reply_timeout)
    server.start()
    try:
        if on_ready is not None:
            on_ready(server)
        server.wait()
    finally:
        server.stop()


def _converter(space: gym.Space[Any]) -> Callable[[Array], Any]:
    """How a batch of actions becomes one action for each environment."""
    if isinstance(space, gym.spaces.Discrete):
        return lambda actions: actions.tolist()
    dtype = space.dtype
    # A writable copy: some environments clip an action in place.
    return lambda actions: np.array(actions, dtype)


def _spec(environment: gym.Env[Any, Any]) -> Spec:
    spec = environment.spec
    return make_spec(
        space_to_proto(environment.observation_space),
        space_to_proto(environment.action_space),
        action_masks=environment.has_wrapper_attr(MASKS_METHOD),
        max_episode_steps=(spec.max_episode_steps or 0) if spec is not None else 0,
        parameters=gymnasium_parameters(environment),
    )


def gymnasium_parameters(environment: gym.Env[Any, Any]) -> tuple[Parameter, ...]:
    """What the environment declares in its metadata; none without. Raises InvalidSpace."""
    return parameters_from_metadata(environment.metadata.get("parameters", {}))


def _close(environments: Sequence[gym.Env[Any, Any]]) -> None:
    for environment in environments:
        environment.close()

"""A simulator over gRPC as one environment.

A session's batch of environments is faster for training. Must not know how a session works.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from aisandbox.v1 import tensor_pb2 as pb
from aisandbox_wire import Array

from aisandbox_environment.adapters import Action, Observation
from aisandbox_environment.parameters import Parameter, ParameterValue
from aisandbox_environment.session import EpisodeParameters, SimulatorSession, Timeouts


class GrpcExternalEnvAdapter:
    """An ExternalEnvAdapter over a session with one environment. The constructor and every method raise SimulatorError.

    When an episode ends, the simulator has already begun the next one: the :meth:`reset` that follows returns its
    first observation, and sends a request only if it has a seed or other parameters, or no episode has begun.
    """

    def __init__(
        self,
        address: str,
        options: Mapping[str, Any] | None = None,
        *,
        run_id: str = "",
        evaluation: bool = False,
        timeouts: Timeouts | None = None,
    ) -> None:
        self._session = SimulatorSession.connect(
            address, 1, options, run_id=run_id, evaluation=evaluation, timeouts=timeouts
        )
        self._next_observation: Observation | None = None
        self._mask: Array | None = None
        self._ended = False
        self._given: dict[str, ParameterValue] | None = None

    @property
    def observation_space(self) -> pb.Space:
        """What is observed."""
        return self._session.spec.observation_space

    @property
    def action_space(self) -> pb.Space:
        """What can be done."""
        return self._session.spec.action_space

    @property
    def max_episode_steps(self) -> int:
        """After how many steps an episode is truncated; 0 if there is no limit."""
        return self._session.spec.max_episode_steps

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """What may be chosen for an episode."""
        return self._session.spec.parameters

    @property
    def action_masks(self) -> Callable[[], Array]:
        """Which actions are allowed now, bool [mask_width]; a simulator without masks gives no such member."""
        if not self._session.spec.action_masks:
            raise AttributeError("action_masks: the simulator declares none")
        return self._current_mask

    def _current_mask(self) -> Array:
        if self._mask is None:
            raise RuntimeError("there is no mask before a reset")
        return self._mask

    def reset(self, seed: int | None = None, parameters: EpisodeParameters | None = None) -> Observation:
        """Start an episode; returns its first observation.

        ``parameters``: values by name, the others have their defaults; None: those of the last reset.
        """
        begun, self._next_observation = self._next_observation, None
        self._ended = False
        changed = parameters is not None and dict(parameters) != self._given
        if seed is None and begun is not None and not changed:
            return begun
        values = None if parameters is None else {0: parameters}
        result = self._session.reset(None if seed is None else [seed], values)
        self._given = self._given if parameters is None else dict(parameters)
        self._mask = None if result.action_masks is None else np.array(result.action_masks[0])
        return self._first(result.observations)

    def step(self, action: Action) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Take one step; returns observation, reward, terminated, truncated, info.

        ``info`` has ``action_mask`` (bool array) if the simulator gives masks and ``episode_metrics`` at the end of
        an episode that has some. Raises RuntimeError for a step after the end of an episode without a reset.
        """
        if self._ended:
            raise RuntimeError("the episode has ended: call reset before the next step")
        result = self._session.step(np.asarray(action)[np.newaxis])
        info: dict[str, Any] = {}
        if result.action_masks is not None:
            self._mask = info["action_mask"] = np.array(result.action_masks[0])
        if result.episode_metrics:
            info["episode_metrics"] = dict(result.episode_metrics[0].values)
        observations = result.observations
        if len(result.ended):
            self._ended = True
            self._next_observation = self._first(observations)
            observations = result.final_observations
        return (
            self._first(observations),
            float(result.rewards[0]),
            bool(result.terminated[0]),
            bool(result.truncated[0]),
            info,
        )

    def close(self) -> None:
        """End the session."""
        self._session.close()

    def _first(self, arrays: Sequence[Array]) -> Observation:
        leaves = self._session.spec.observation_leaves
        # Copies: the arrays of a result cannot be written.
        if self.observation_space.WhichOneof("kind") == "dict":
            return {leaf.key: np.array(array[0]) for leaf, array in zip(leaves, arrays, strict=True)}
        return np.array(arrays[0][0])

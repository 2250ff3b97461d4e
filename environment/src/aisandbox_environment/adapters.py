"""The interface of one environment in Python, and a small environment in memory that implements it.

Must not know batches, sessions or learning algorithms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from aisandbox.v1 import tensor_pb2 as pb
from aisandbox_wire import Array

from aisandbox_environment.parameters import Parameter, ParameterValue

Observation = Array | dict[str, Array]
"""An array of the observation space's shape and dtype; for a Dict one array a key."""

Action = Array | np.integer[Any]
"""An array of the action space's shape and dtype; for a Discrete a whole number (NumPy's, or an array of shape [])."""


@runtime_checkable
class ExternalEnvAdapter(Protocol):
    """One environment: what the author of a simulation writes as a class. The class inherits from nothing.

    :class:`~aisandbox_environment.AdapterSimulation` serves it. Each environment of a session is an object of its own,
    made by a factory without arguments. The methods of one object are called one at a time, ``reset`` first.

    Optional member: ``max_episode_steps`` (int), after how many steps the environment truncates an episode; 0 or
    absent: it declares no limit. It is read once, with the spaces. Nothing truncates an episode for the environment.

    Optional member: ``parameters`` (a sequence of :class:`~aisandbox_environment.Parameter`), what a run's lessons may
    choose for episodes; read once, with the spaces. Once a client has chosen, each reset gets them:
    ``reset(seed, parameters={"distance": 3.0})``, every parameter by its name, checked. Before, it has the defaults.

    Optional member: ``action_masks()``, which actions are allowed now, as Gymnasium's environments have it: 0 and 1, or
    bools, for each choice of each dimension (StepReply.action_masks has the layout). With it the environment declares
    masks, of Discrete, MultiDiscrete and MultiBinary actions; it is called after each reset and each step. A mask of
    another length or with other values ends the session, as an exception does; one that allows nothing, the run.

    Episode metrics and options are not part of this interface: implement :class:`~aisandbox_environment.Simulation` for
    these.

    An exception from ``reset`` or ``step`` is logged and ends the session with INTERNAL, which its client sees as
    SimulationFailed; a trainer then opens a new session and begins new episodes.
    """

    @property
    def observation_space(self) -> pb.Space:
        """What is observed: any Space of tensor.proto. It does not change.

        Raises InvalidSpace from the server's constructor if it breaks a rule.
        """
        ...

    @property
    def action_space(self) -> pb.Space:
        """What can be done: a Space of tensor.proto other than a Dict; a Box has finite bounds. It does not change."""
        ...

    def reset(self, seed: int | None = None) -> Observation:
        """Start an episode; returns its first observation.

        ``seed``: from 0 to 2^64 - 1; the same seed and the same actions give the same episode. None: continue with
        the random generator there is. The observation has the space's shape; another dtype is converted. Its elements
        are finite; elements outside the bounds of a Box are sent as they are.
        """
        ...

    def step(self, action: Action) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Take one step; returns observation, reward, terminated, truncated, info.

        ``action``: checked to be within the action space; an array of its own that may be changed. ``observation``: as
        of ``reset``; in the last step of an episode the last observation. It may be the array of the step before,
        overwritten. ``reward``: a finite number, sent as float32. An observation or a reward with NaN or infinity
        breaks the contract: the client ends the session with InvalidReply, a permanent error, and the run fails.
        ``terminated``: a terminal state was reached, and nothing that follows has a value. ``truncated``: the episode
        was cut, for example by a time limit. After either, ``reset`` is called next. ``info``: not sent.
        """
        ...

    def close(self) -> None:
        """Free what the environment holds. Called once; an exception is logged."""
        ...


class FakeExternalEnvAdapter:
    """A point on the line from -1 to 1 that moves left (action 0) or right (1) and is rewarded for being near 0.

    In memory, deterministic, learned within seconds. The observation is the position, float32 [1]; a step moves by
    0.1; the reward is 1 - abs(position); an episode is truncated after ``episode_steps`` steps and never terminates.
    The best policy earns more than 0.9 a step once it is near 0. The parameter ``start`` bounds the first position.
    """

    parameters: Sequence[Parameter] = (
        Parameter("start", 1.0, minimum=0.0, maximum=1.0, description="the greatest distance from 0 of the start"),
    )

    def __init__(self, episode_steps: int = 50) -> None:
        self._episode_steps = episode_steps
        self._random = np.random.default_rng(0)
        self._position = 0.0
        self._steps = 0

    @property
    def observation_space(self) -> pb.Space:
        """The position."""
        return pb.Space(box=pb.Box(dtype=pb.DATA_TYPE_FLOAT32, shape=[1], low=[-1], high=[1], names=["position"]))

    @property
    def action_space(self) -> pb.Space:
        """Left or right."""
        return pb.Space(discrete=pb.Discrete(n=2, names=["left", "right"]))

    @property
    def max_episode_steps(self) -> int:
        """After how many steps an episode is truncated."""
        return self._episode_steps

    def reset(self, seed: int | None = None, parameters: Mapping[str, ParameterValue] | None = None) -> Array:
        """Start at a random position."""
        if seed is not None:
            self._random = np.random.default_rng(seed)
        start = float((parameters or {}).get("start", 1.0))
        self._position = float(self._random.uniform(-start, start))
        self._steps = 0
        return self._observe()

    def step(self, action: Action) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Move. Raises ValueError for an action other than 0 and 1."""
        direction = int(action)
        if direction not in (0, 1):
            raise ValueError(f"action: must be 0 or 1, got {direction}")
        self._position = min(1.0, max(-1.0, self._position + (0.1 if direction else -0.1)))
        self._steps += 1
        return self._observe(), 1.0 - abs(self._position), False, self._steps >= self._episode_steps, {}

    def close(self) -> None:
        """Nothing is held."""

    def _observe(self) -> Array:
        return np.array([self._position], np.float32)

"""The interface of a simulation in Python: batches of environments, and what they return.

:mod:`aisandbox_environment.server` serves what implements it, and a session's client returns the same results. Must
not know gRPC or the wire.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from aisandbox_wire import Array

from aisandbox_environment.parameters import ParameterValue
from aisandbox_environment.spec import Spec

NO_EPISODE_ENDED: Array = np.zeros(0, np.intp)
"""The value of ``StepResult.ended`` for a step in which no episode ended."""
NO_EPISODE_ENDED.flags.writeable = False


@dataclass(frozen=True, slots=True)
class EpisodeMetrics:
    """Named numbers about an episode that has ended.

    ``environment`` is the number of the environment that ended it, from 0; ``values`` are finite.
    """

    environment: int
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class ResetResult:
    """The first observations of N environments.

    ``observations``: one array [N, *shape] for each leaf of the observation space, in its order and with its dtype.
    ``action_masks``: bool [N, mask_width], True for what may be chosen; None if the spec has no masks.
    """

    observations: Sequence[Array]
    action_masks: Array | None = None


class StepResult(NamedTuple):
    """One step of N environments, with same-step autoreset; see StepReply in environment.proto.

    ``observations``: one array [N, *shape] for each leaf; for an environment whose episode ended, the first
    observation of its next episode. ``rewards``: float32 [N], finite. ``terminated``, ``truncated``: bool [N].
    ``ended``: intp [K], the numbers of the environments whose episode ended, in ascending order.
    ``final_observations``: one array [K, *shape] for each leaf, the last observations of those episodes; ignored if K
    is 0. ``action_masks``: see ResetResult. ``episode_metrics``: at most one for each of the K environments. A tuple,
    because one is made at both ends of every step, and a frozen dataclass takes four times as long to make.
    """

    observations: Sequence[Array]
    rewards: Array
    terminated: Array
    truncated: Array
    ended: Array = NO_EPISODE_ENDED
    final_observations: Sequence[Array] = ()
    action_masks: Array | None = None
    episode_metrics: Sequence[EpisodeMetrics] = ()


class SimulationBatch(Protocol):
    """The environments of one session. Its methods are called one at a time, all from the session's thread."""

    @property
    def spec(self) -> Spec:
        """The spec of every environment of the batch; it does not change."""
        ...

    def reset(self, seeds: Sequence[int] | None) -> ResetResult:
        """Start an episode in every environment.

        ``seeds``: one unsigned 64-bit number for each environment; None: each continues with the random generator it
        has. Raises like :meth:`step`.
        """
        ...

    def step(self, actions: Array) -> StepResult:
        """Take one step in every environment; restart those whose episode ended (same-step autoreset).

        ``actions``: read-only [N, *shape] of the action space's dtype, checked to be within the action space. The next
        call may overwrite the arrays of the result. Raises Busy or InvalidRequest to refuse the request, having
        changed nothing; any other exception ends the session.
        """
        ...

    def close(self) -> None:
        """Free the environments."""
        ...


@runtime_checkable
class ParameterizedBatch(Protocol):
    """What a batch whose spec declares parameters has beside the methods of SimulationBatch."""

    def set_parameters(self, environment: int, values: Mapping[str, ParameterValue]) -> None:
        """From its next episode on, the environment of this number (from 0) has these parameters.

        ``values``: every parameter of the spec by its name, checked; until the first call an environment has the
        defaults. Called before ``reset`` and before ``step``, also with the values that it has; the episode that such a
        reset begins, or that follows an episode that ends in that step, has them. Must not fail.
        """
        ...


class Simulation(Protocol):
    """Makes batches of environments; called from several threads."""

    @property
    def name(self) -> str:
        """The simulation's name, for people."""
        ...

    @property
    def version(self) -> str:
        """The simulation's own version, for people; may be empty."""
        ...

    @property
    def spec(self) -> Spec:
        """The spec of a batch that is made without options."""
        ...

    def make(self, environments: int, options: Mapping[str, Any]) -> SimulationBatch:
        """A batch of ``environments`` environments, at least 1.

        ``options`` are JSON values; whole numbers are int. Raises InvalidOptions, naming the key, for an option it
        does not know or a value it does not accept; any other exception ends the session with INTERNAL.
        """
        ...

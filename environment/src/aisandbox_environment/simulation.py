"""What a simulation in Python implements to be served as an EnvironmentService.

Must not know gRPC or the wire: :mod:`aisandbox_environment.server` serves what keeps to these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from aisandbox_wire.tensors import Array

from aisandbox_environment.results import ResetResult, StepResult
from aisandbox_environment.spec import Spec


class SimulationBatch(Protocol):
    """The environments of one session. Its methods are called one at a time, from one thread that is the session's."""

    @property
    def spec(self) -> Spec:
        """The spaces; the same for all environments and for the batch's whole life."""
        ...

    def reset(self, seeds: Sequence[int] | None) -> ResetResult:
        """Start an episode in every environment, with one seed each or with the generators they have."""
        ...

    def step(self, actions: Array) -> StepResult:
        """Take one step in every environment; restart those whose episode ended (same-step autoreset).

        ``actions``: [N, *shape], within the action space; read-only. The arrays of the result may be used again by
        the next call. Raises Busy or InvalidRequest, having changed nothing; anything else ends the session.
        """
        ...

    def close(self) -> None:
        """Free the environments."""
        ...


class Simulation(Protocol):
    """Makes batches of environments; called from several threads."""

    @property
    def name(self) -> str:
        """A name for people."""
        ...

    @property
    def version(self) -> str:
        """The simulation's own version, for people."""
        ...

    @property
    def spec(self) -> Spec:
        """The spec of a batch that is made without options."""
        ...

    def make(self, environments: int, options: Mapping[str, Any]) -> SimulationBatch:
        """A batch of ``environments`` environments. Raises InvalidOptions, naming the key, for a setting it rejects."""
        ...

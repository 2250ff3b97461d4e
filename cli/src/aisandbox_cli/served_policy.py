"""A trained policy that the service serves, as one that plays: each observation is a call of Act.

Must not know how it was trained, or what is done with its actions.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from aisandbox.v1 import policy_trainer_pb2 as pb

from aisandbox_cli.connection import CALL_TIMEOUT, Connection, connect

if TYPE_CHECKING:
    from aisandbox_environment import Spec
    from aisandbox_wire import Array


class ServedPolicy:
    """The policy of a run on an open connection; its state, if it is recurrent, lasts for an episode."""

    def __init__(self, service: Connection, run: str, model: str, spec: Spec) -> None:
        self._service = service
        self._run = run
        self._model = model
        self._leaf = spec.action_leaf
        self._state = b""

    @classmethod
    @contextmanager
    def connected(cls, address: str | None, run: str, model: str, spec: Spec) -> Iterator[ServedPolicy]:
        """The policy, as long as the connection is open."""
        with connect(address, model_of=run) as service:
            yield cls(service, run, model, spec)

    def begin_episode(self) -> None:
        """Forgets the episode before."""
        self._state = b""

    def __call__(self, observation: Any, mask: Array | None) -> Array:
        """The likeliest action. Raises grpc.RpcError."""
        leaves = observation.values() if isinstance(observation, dict) else [observation]
        request = pb.ActRequest(
            run_id=self._run,
            observation=np.concatenate([np.asarray(leaf, np.float32).ravel() for leaf in leaves]),
            model=self._model,
            action_mask=() if mask is None else mask.tolist(),
            state=self._state,
            episode_start=not self._state,
        )
        response = self._service.stub.Act(request, timeout=CALL_TIMEOUT)
        self._state = response.state
        action = np.asarray(response.action, np.float64).reshape(self._leaf.shape)
        if self._leaf.low is not None and self._leaf.high is not None:  # the numbers on the wire are float32
            return np.clip(action, self._leaf.low, self._leaf.high).astype(self._leaf.dtype)
        return np.rint(action).astype(self._leaf.dtype)

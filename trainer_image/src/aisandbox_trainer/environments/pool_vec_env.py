"""The environments of a run on a pool: their number changes when simulators leave and join.

Owns what is kept when a session fails. Must not know what a model does about the number.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from aisandbox_environment import SimulatorError, SimulatorSession

from aisandbox_trainer.environments.grpc_vec_env import GrpcVecEnv
from aisandbox_trainer.environments.patience import Patience
from aisandbox_trainer.environments.pool_sessions import PoolSessions
from aisandbox_trainer.runtime.stop import Stop


class PoolVecEnv(GrpcVecEnv):
    """As GrpcVecEnv; after :meth:`reconnect` and :meth:`take_joined` ``num_envs`` may be another."""

    def __init__(self, pool: PoolSessions, stop: Stop, patience: Patience | None = None) -> None:
        self._pool = pool
        super().__init__(partial(stop.interruptibly, pool.connect), stop, patience)

    @property
    def missing(self) -> str:
        """What of the environments asked for is not there, in words for a status; empty if all are."""
        target = self._pool.target
        asked = target.pool.environments or target.fewest
        if self.num_envs >= asked:
            return ""
        return f"training with {self.num_envs} of {asked} environments of pool {target.pool.name!r}"

    def reconnect(self) -> None:
        """Keeps the sessions that still answer, and opens more; the next call must be :meth:`reset`.

        Raises TooFewEnvironments, SimulatorChanged if the spaces are not what they were.
        """
        kept, self._sessions = self._settled(), []
        self._sessions = self._stop.interruptibly(lambda: self._pool.connect(kept))
        self._take()

    def take_joined(self) -> bool:
        """Takes simulators that have attached since, if there are any; then the next call must be :meth:`reset`."""
        joined = self._pool.joined(self.num_envs)
        if not joined:
            return False
        self._sessions = [*self._sessions, *joined]
        self._take()
        return True

    def close(self) -> None:
        """Ends the sessions; their simulators wait for the next run."""
        self._pool.close()
        super().close()

    def _settled(self) -> list[SimulatorSession]:
        """The sessions that have answered all requests; the others are closed."""
        kept: list[SimulatorSession] = []
        sessions: Sequence[SimulatorSession] = self._sessions
        for session in sessions:
            try:
                if self._stop.interruptibly(session.settle):
                    kept.append(session)
                    continue
            except SimulatorError:
                pass
            session.close()
        return kept

"""The environments of a run on a pool: their number changes when simulators leave and join.

Owns what is kept when a session fails. Must not know what a model does about the number.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import structlog
from aisandbox_environment import SimulatorSession

from aisandbox_trainer.environments.grpc_vec_env import GrpcVecEnv
from aisandbox_trainer.environments.pool_sessions import PoolSessions
from aisandbox_trainer.environments.sessions import settled
from aisandbox_trainer.environments.slow_replies import SlowReplies
from aisandbox_trainer.runtime.stop import Stop

log = structlog.get_logger(__name__)


class PoolVecEnv(GrpcVecEnv):
    """As GrpcVecEnv; after :meth:`reconnect` and :meth:`take_joined` ``num_envs`` may be another."""

    def __init__(self, pool: PoolSessions, stop: Stop, slow_replies: SlowReplies | None = None) -> None:
        self._pool = pool
        super().__init__(partial(stop.interruptibly, pool.connect), stop, slow_replies)

    @property
    def missing(self) -> str:
        """What of the environments asked for is not there, in words for a status; empty if all are."""
        target = self._pool.target
        asked = target.pool.environments or target.fewest
        if self.num_envs >= asked:
            return ""
        says = f"training with {self.num_envs} of {asked} environments of pool {target.pool.name!r}"
        if target.most < asked:
            says += f"; the trainer's memory holds the buffer of {target.most} (TRAINER_MEMORY_BYTES)"
        return says

    @property
    def simulators(self) -> int:
        """How many there are now."""
        return len(self._sessions)

    @property
    def most(self) -> int:
        """The most environments that are taken."""
        return self._pool.target.most

    def take_at_most(self, environments: int) -> None:
        """From now on no more are taken than so many ``environments``."""
        target = self._pool.target
        if environments < target.most:
            self._pool.target = replace(target, most=environments)
            log.info("the memory bounds the environments that are taken", most=environments)

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
        return self._stop.interruptibly(lambda: settled(self._sessions, self._cancel))

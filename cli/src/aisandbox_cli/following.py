"""Follows a run until it is done, over the loss of the connection and restarts of the service.

Owns when to dial again and when to give up. Must not know how a status is shown.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import grpc
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1 import policy_trainer_pb2_grpc as rpc

from aisandbox_cli.errors import Unreachable

# What a service that stops or is not there answers; a call that is sent again cures it.
LOST = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED})
# Seconds without an answer after which following ends; the run is not touched by it.
PATIENCE = 120.0
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 3.0


@dataclass(frozen=True, slots=True)
class ConnectionLost:
    """The service does not answer, and is dialled again. ``why`` is what gRPC says."""

    why: str


def watch(
    stub: rpc.PolicyTrainerServiceStub,
    run_id: str,
    *,
    patience: float = PATIENCE,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[pb.StatusResponse | ConnectionLost]:
    """Yields the run's status after every change, and :class:`ConnectionLost` once for each loss.

    The last one has ``is_done`` set.

    Raises:
        grpc.RpcError: the service refused, or has not answered for ``patience`` seconds.
        Unreachable: the service has ended every stream early for as long.
    """
    lost_at: float | None = None
    pause = FIRST_PAUSE
    while True:
        try:
            for status in stub.WatchTraining(pb.WatchTrainingRequest(run_id=run_id)):
                lost_at, pause = None, FIRST_PAUSE
                yield status
                if status.is_done:
                    return
            why, error = "the stream ended early", None
        except grpc.RpcError as caught:
            if caught.code() not in LOST:
                raise
            why, error = caught.details() or caught.code().name, caught
        now = clock()
        if lost_at is None:
            lost_at = now
            yield ConnectionLost(why)
        elif now - lost_at > patience:
            raise error or Unreachable("the service ends the stream of statuses again and again")
        sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)

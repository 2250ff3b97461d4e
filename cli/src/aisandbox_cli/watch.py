"""Watches a run until it is done, through lost connections and restarts of the service.

Owns when a stream is opened again and when to give up. Must not know how a status is shown.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import grpc
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1 import policy_trainer_pb2_grpc as rpc
from aisandbox_process.tls import connection_problem

from aisandbox_cli.errors import Unavailable

# The statuses of a service that stops or is not running; a retry helps.
RETRYABLE = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED})
# Seconds without an answer after which watching ends; the run itself is not affected.
GIVE_UP_AFTER = 120.0
INITIAL_BACKOFF, MAX_BACKOFF = 0.2, 3.0


@dataclass(frozen=True, slots=True)
class ConnectionLost:
    """The service does not answer and the call is retried. ``reason`` is gRPC's message."""

    reason: str


def watch_training(
    stub: rpc.PolicyTrainerServiceStub,
    run_id: str,
    *,
    give_up_after: float = GIVE_UP_AFTER,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[pb.StatusResponse | ConnectionLost]:
    """Yields the run's status after every change, and :class:`ConnectionLost` once for each lost connection.

    The last status has ``is_done`` set.

    Raises:
        grpc.RpcError: the service refused, or has not answered for ``give_up_after`` seconds.
        Unavailable: the service has ended every stream early for as long.
    """
    lost_at: float | None = None
    backoff = INITIAL_BACKOFF
    while True:
        try:
            for status in stub.WatchTraining(pb.WatchTrainingRequest(run_id=run_id)):
                lost_at, backoff = None, INITIAL_BACKOFF
                yield status
                if status.is_done:
                    return
            reason, error = "the stream ended early", None
        except grpc.RpcError as caught:
            if caught.code() not in RETRYABLE or connection_problem(caught.details() or "", name="", ca_file=""):
                raise
            reason, error = caught.details() or caught.code().name, caught
        now = clock()
        if lost_at is None:
            lost_at = now
            yield ConnectionLost(reason)
        elif now - lost_at > give_up_after:
            raise error or Unavailable("the service ends the stream of WatchTraining again and again")
        sleep(backoff)
        backoff = min(2 * backoff, MAX_BACKOFF)

"""A simulator for the tests of the trainer, written against the generated code alone, so that it can misbehave.

    python trainer_simulator.py PORT BEHAVIOUR [STEP]

An episode has five steps with a reward of 0.1 each and ends with `terminated` (or `truncated`, if BEHAVIOUR is that).
Observations are [number of the session of this process, total step of the session / 10000, 1].
From step STEP of a session on: `nan` sends NaN, `short` too few numbers, `hang` prints "hangs" and does not answer,
`exit` ends the process, `break` ends the stream with INTERNAL. `halted` asks to be waited for, and at step STEP of each
session prints "halts" and stops the process, as a debugger does, until it gets SIGCONT. `version` speaks another
version of the protocol, `full` has no room for evaluation.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
from aisandbox.v1 import environment_pb2 as pb
from aisandbox.v1 import environment_pb2_grpc as services
from aisandbox.v1 import tensor_pb2

EPISODE = 5
SESSIONS = itertools.count(1)
# Other numbers in the next process on this port.
FIRST = os.getpid() % 1000


def tensor(array: Any) -> tensor_pb2.Tensor:
    array = np.asarray(array, "<f4")
    return tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_FLOAT32, shape=array.shape, data=array.tobytes())


def spec() -> pb.EnvironmentSpec:
    result = pb.EnvironmentSpec()
    result.observation_space.box.dtype = tensor_pb2.DATA_TYPE_FLOAT32
    result.observation_space.box.shape.append(3)
    result.observation_space.box.names.extend(["session", "step", "age"])
    result.action_space.discrete.n = 2
    result.action_space.discrete.names.extend(["stay", "leave"])
    return result


class Simulator(services.EnvironmentServiceServicer):
    def __init__(self, behaviour: str, trouble: int) -> None:
        self.behaviour = behaviour
        self.trouble = trouble

    def Describe(self, request: pb.DescribeRequest, context: Any) -> pb.DescribeResponse:
        return pb.DescribeResponse(protocol_version=1, name="test", spec=spec())

    def Session(self, requests: Iterator[pb.SimulatorRequest], context: Any) -> Iterator[pb.SimulatorReply]:
        number, n, step = FIRST + next(SESSIONS), 0, 0
        ages: Any = np.zeros(0)
        for request in requests:
            kind = request.WhichOneof("request")
            if kind == "open":
                if self.behaviour == "version":
                    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "speaks version 7, not 1")
                if self.behaviour == "full" and request.open.evaluation:
                    context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no more environments")
                n = request.open.environments
                asked = 600 if self.behaviour == "halted" else 0
                yield pb.SimulatorReply(open=pb.OpenReply(spec=spec(), reply_timeout_seconds=asked))
            elif kind == "reset":
                ages = np.arange(n) % EPISODE
                yield pb.SimulatorReply(reset=pb.ResetReply(observations=[self._observe(number, step, n)]))
            else:
                step += 1
                ages = ages + 1
                yield self._step(number, step, ages, context)
                ages[ages >= EPISODE] = 0

    def _step(self, number: int, step: int, ages: Any, context: Any) -> pb.SimulatorReply:
        n, ended = len(ages), ages >= EPISODE
        in_trouble = self.trouble and step >= self.trouble
        if in_trouble and self.behaviour == "exit":
            os._exit(3)
        if in_trouble and self.behaviour == "hang":
            print("hangs", flush=True)
            threading.Event().wait(600)
        if step == self.trouble and self.behaviour == "halted":
            print("halts", flush=True)
            os.kill(os.getpid(), signal.SIGSTOP)
        if in_trouble and self.behaviour == "break":
            context.abort(grpc.StatusCode.INTERNAL, "the physics exploded")
        rewards = np.full(n, 0.1, "<f4")
        if in_trouble and self.behaviour == "nan":
            rewards[0] = np.nan
        if in_trouble and self.behaviour == "short":
            rewards = rewards[1:]
        nothing = np.zeros(n, bool)
        truncates = self.behaviour == "truncated"
        finals = [self._observe(number, step, int(ended.sum()))] if ended.any() else []
        metrics = [pb.EpisodeMetrics(environment=int(i), values={"goals": 2.0}) for i in np.flatnonzero(ended)]
        return pb.SimulatorReply(
            step=pb.StepReply(
                observations=[self._observe(number, step, n)],
                rewards=rewards.tobytes(),
                terminated=(nothing if truncates else ended).tobytes(),
                truncated=(ended if truncates else nothing).tobytes(),
                final_observations=finals,
                episode_metrics=metrics,
            )
        )

    def _observe(self, number: int, step: int, rows: int) -> tensor_pb2.Tensor:
        shown = (0, 0) if self.behaviour in ("truncated", "terminated") else (number, step / 10_000)
        return tensor([[*shown, 1.0]] * rows)


def main() -> None:
    port, behaviour, trouble = sys.argv[1], sys.argv[2], int((sys.argv[3:] or ["0"])[0])
    server = grpc.server(ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
    services.add_EnvironmentServiceServicer_to_server(Simulator(behaviour, trouble), server)
    print(server.add_insecure_port(f"127.0.0.1:{port}"), flush=True)
    server.start()
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()

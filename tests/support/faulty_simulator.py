"""Real simulators that crash, hang, send invalid replies and restart, and record all that they have served.

Every number a simulator serves follows from (session, step, environment, episode), so that of each transition a
learner holds it can be said whether it was served: an observation is just these four, a reward a fraction made of
them, an episode ends after EPISODE steps. What was served is in the file ``served``: a line of JSON a step, written
before the answer. Written against the generated code alone, so that it can misbehave.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import queue
import random
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

EPISODE = 7
TAUGHT_PARAMETER = "high"
POOL = "arena"
READ_AGAIN = "read-again"
"""A simulator that reads no more reads again when a file with this name is beside what it has served."""

RUBBISH = (
    "no number as reward", "infinite observation", "too few rewards", "too many observations", "another shape",
    "another data type", "another kind of reply", "an empty reply", "a flag of 7", "too few flags",
    "no final observation", "an error in band", "cut tensor",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Script:
    """``trouble`` ("", "die", "hang" or one of RUBBISH; if it is attached, "read no more") comes at step ``at`` of
    session ``session`` of this process.

    ``first`` is the number of its first session; ``width`` of another simulator's observations is another. ``masked``:
    it declares action masks. ``taught``: it declares the parameter TAUGHT_PARAMETER, and writes down what it gets.
    """

    served: Path
    first: int = 1
    trouble: str = ""
    session: int = 1
    at: int = 0
    width: int = 4
    masked: bool = False
    taught: bool = False


def mask_of(session: int, step: int, environment: int) -> tuple[int, int]:
    """Which of the two actions are allowed after a step: one of them two times in three, else both."""
    return ((1, 0), (0, 1), (1, 1))[(session * 5 + step * 2 + environment) % 3]


def reward_of(session: int, step: int, environment: int) -> float:
    """A fraction that float32 holds exactly."""
    return ((session * 31 + step * 7 + environment * 3) % 64) / 64


def serve(script: Script, port: int, told: Any) -> None:
    """The process: serves until it is killed. Tells its port."""
    import grpc
    from aisandbox.v1 import environment_pb2_grpc as services

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
    services.add_EnvironmentServiceServicer_to_server(_servicer(script), server)
    told.send(server.add_insecure_port(f"127.0.0.1:{port}"))
    server.start()
    threading.Event().wait()


def attach(script: Script, address: str, told: Any) -> None:
    """The process: attaches to the pool POOL of the service at ``address``, again and again, until it is killed.

    How each of its streams has ended is a line of what was served: ``left``, the name of the status, and its details.
    """
    import grpc

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    servicer = _servicer(script)
    told.send(0)
    while True:
        with grpc.insecure_channel(address) as channel:
            try:
                _serve_place(servicer, channel)
            except grpc.RpcError as error:
                servicer.tell(left=error.code().name, details=error.details())
        time.sleep(0.05)


def _serve_place(servicer: Any, channel: Any) -> None:
    """One stream of Attach, until it ends. Raises RpcError."""
    from aisandbox.v1 import simulator_pool_pb2 as pool_pb
    from aisandbox.v1 import simulator_pool_pb2_grpc as pool_services

    sent: queue.SimpleQueue[Any] = queue.SimpleQueue()
    register = pool_pb.RegisterSimulator(
        pool=POOL, instance=f"{os.getpid()}-{time.monotonic()}", protocol_version=1, environments=2
    )
    register.spec.CopyFrom(servicer.Describe(None, None).spec)
    sent.put(pool_pb.AttachRequest(register=register))
    requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
    replies: Iterator[Any] = iter(())
    for response in pool_services.SimulatorPoolServiceStub(channel).Attach(iter(sent.get, None)):
        kind = response.WhichOneof("message")
        if kind == "request":
            if response.request.WhichOneof("request") == "open":
                requests = queue.SimpleQueue()
                replies = servicer.Session(iter(requests.get, None), None)
            requests.put(response.request)
            sent.put(pool_pb.AttachRequest(reply=next(replies)))
            servicer.rest()
        elif kind == "session_ended":
            sent.put(pool_pb.AttachRequest(session_ended=pool_pb.SessionEnded()))


def _servicer(script: Script) -> Any:
    import numpy as np
    from aisandbox.v1 import environment_pb2 as pb
    from aisandbox.v1 import environment_pb2_grpc as services
    from aisandbox.v1 import tensor_pb2

    lock = threading.Lock()
    sessions: list[int] = []

    def tensor(rows: Any) -> Any:
        array = np.asarray(rows, "<f4").reshape(-1, script.width)
        return tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_FLOAT32, shape=array.shape, data=array.tobytes())

    def spec() -> Any:
        result = pb.EnvironmentSpec()
        result.observation_space.box.dtype = tensor_pb2.DATA_TYPE_FLOAT32
        result.observation_space.box.shape.append(script.width)
        result.action_space.discrete.n = 2
        result.action_masks = script.masked
        if script.taught:
            parameter = result.parameters.add(name=TAUGHT_PARAMETER)
            parameter.default.number_value = 0.0
        return result

    def masks(number: int, step: int, environments: int) -> bytes:
        rows = [mask_of(number, step, i) for i in range(environments)] if script.masked else []
        return b"".join(map(bytes, rows))

    def tell_parameters(number: int, each: Any) -> None:
        if script.taught:
            tell(session=number, parameters=[dict(parameters) for parameters in each])

    def tell(**line: Any) -> None:
        with lock, script.served.open("a") as file:
            file.write(json.dumps(line) + "\n")

    class Simulator(services.EnvironmentServiceServicer):
        def __init__(self) -> None:
            self.tell, self.rests = tell, False

        def rest(self) -> None:
            """Returns when the next message may be read."""
            while self.rests and not script.served.with_name(READ_AGAIN).exists():
                time.sleep(0.05)

        def Describe(self, request: Any, context: Any) -> Any:
            return pb.DescribeResponse(protocol_version=1, name="faulty", spec=spec())

        def Session(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:
            with lock:
                sessions.append(0)
                count = len(sessions)
            number, step, ages, episodes = script.first + count - 1, 0, [], []
            for request in requests:
                kind = request.WhichOneof("request")
                if kind == "open":
                    ages, episodes = [0] * request.open.environments, [0] * request.open.environments
                    yield pb.SimulatorReply(open=pb.OpenReply(spec=spec()))
                elif kind == "reset":
                    ages = [i % EPISODE for i in range(len(ages))]
                    tell_parameters(number, [request.reset.parameters, *request.reset.environment_parameters.values()])
                    allowed = masks(number, step, len(ages))
                    seen = [observe(number, step, episodes)]
                    yield pb.SimulatorReply(reset=pb.ResetReply(observations=seen, action_masks=allowed))
                else:
                    step += 1
                    ages = [age + 1 for age in ages]
                    actions = np.frombuffer(request.step.actions.data, "<i8").tolist()
                    tell(session=number, step=step, actions=actions)
                    tell_parameters(number, request.step.next_parameters.values())
                    reply = answer(number, step, ages, episodes)
                    if script.trouble and (count, step) == (script.session, script.at):
                        tell(trouble=script.trouble, session=number, step=step)
                        reply = self.trouble(reply)
                    yield reply
                    ended = [age >= EPISODE for age in ages]
                    ages = [0 if end else age for age, end in zip(ages, ended, strict=True)]

        def trouble(self, reply: Any) -> Any:
            if script.trouble == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if script.trouble == "hang":
                os.kill(os.getpid(), signal.SIGSTOP)
                return reply  # once it continues
            if script.trouble == "read no more":
                self.rests = True
                return reply
            return spoilt(reply, script.trouble)

    def observe(number: int, step: int, episodes: list[int]) -> Any:
        return tensor([[number, step, i, episode][: script.width] for i, episode in enumerate(episodes)])

    def answer(number: int, step: int, ages: list[int], episodes: list[int]) -> Any:
        ended = [age >= EPISODE for age in ages]
        finals = [[number, step, i, episodes[i]] for i, end in enumerate(ended) if end]
        for i, end in enumerate(ended):
            episodes[i] += end
        rewards = np.array([reward_of(number, step, i) for i in range(len(ages))], "<f4")
        return pb.SimulatorReply(
            step=pb.StepReply(
                observations=[observe(number, step, episodes)],
                rewards=rewards.tobytes(),
                terminated=bytes(ended),
                truncated=bytes(len(ages)),
                final_observations=[tensor(finals)] if finals else [],
                action_masks=masks(number, step, len(ages)),
            )
        )

    def spoilt(reply: Any, how: str) -> Any:
        step = reply.step
        n = len(step.terminated)
        seen = step.observations[0]
        if how == "no number as reward":
            step.rewards = np.full(n, np.nan, "<f4").tobytes()
        elif how == "infinite observation":
            seen.data = np.full((n, script.width), np.inf, "<f4").tobytes()
        elif how == "too few rewards":
            step.rewards = step.rewards[:-4]
        elif how == "too many observations":
            step.observations.append(seen)
        elif how == "another shape":
            seen.shape[:] = [n * script.width]
        elif how == "another data type":
            seen.dtype = tensor_pb2.DATA_TYPE_INT32
        elif how == "another kind of reply":
            return pb.SimulatorReply(reset=pb.ResetReply(observations=[seen]))
        elif how == "an empty reply":
            return pb.SimulatorReply()
        elif how == "a flag of 7":
            step.terminated = bytes([7] * n)
        elif how == "too few flags":
            step.terminated = step.terminated[:-1]
        elif how == "no final observation":
            step.terminated = bytes([1] * n)
            del step.final_observations[:]
        elif how == "an error in band":
            return pb.SimulatorReply(error=pb.SimulatorError(message="the physics said no"))
        elif how == "cut tensor":
            seen.data = seen.data[:-3]
        return reply

    return Simulator()


class Simulator:
    """One address, at which processes follow each other; with a ``service``, processes that attach to its pool."""

    def __init__(self, context: Any, service: str = "") -> None:
        self._context = context
        self._service = service
        self._processes: list[Any] = []
        self.port = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self, script: Script) -> Any:
        """Begins to serve there; the process. Raises TimeoutError."""
        script = replace(script, first=1 + 100 * len(self._processes))
        here, there = multiprocessing.Pipe(duplex=False)
        target, place = (attach, self._service) if self._service else (serve, self.port)
        process = self._context.Process(target=target, args=(script, place, there), daemon=True)
        process.start()
        self._processes.append(process)
        there.close()
        if not here.poll(60):
            raise TimeoutError("the simulator does not start")
        self.port = here.recv()
        return process

    def serve_nonsense(self, seconds: float, chance: random.Random) -> None:
        """Another server, which does not speak gRPC, has the port for a while."""
        with socket.create_server(("127.0.0.1", self.port)) as server:
            server.settimeout(0.05)
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                with connection:
                    connection.sendall(chance.choice([b"HTTP/1.1 200 OK\r\n\r\n", chance.randbytes(500)]))

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.join()


def simulators() -> Any:
    """Where simulator processes come from: forks of a process that has loaded what they need."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["faulty_simulator_imports"])
    return context

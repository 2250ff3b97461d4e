"""Act over loopback: unary calls, a stream, and batches of 64, one call at a time from one client.

Servers, each a process of its own with the same messages: the inference-server with an exported PPO policy;
stable-baselines3's `predict` with that policy behind a bare call, on grpc.aio with uvloop and on gRPC's synchronous
server; and an echo that answers with a constant, which is what gRPC alone costs, served as the inference-server serves
and on those two. The client goes round them in short turns, so that whatever else the machine does falls on all.

The client is gRPC's synchronous one: in its unary calls the thread that calls polls for the answer. Its public streams
have no such way, and hand each message over to two threads of their own; "stream" is a client that polls as the unary
calls do, "public stream" is gRPC's.

    python bench/act.py [--seconds 60] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import queue
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aisandbox_process.grpc_runtime import set_up_grpc

set_up_grpc()  # as the programs do, before gRPC is imported

import grpc
import numpy as np
import uvloop
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1 import policy_trainer_pb2_grpc
from aisandbox_process.grpc_direct import Answer, ClientStream, Methods, UnaryMethod, open_stream, serve_methods
from aisandbox_wire.tensors import decode_tensor, encode_tensor
from rich.console import Console
from rich.table import Table

BATCH = 64
RUN = "cartpole"
OBSERVATION = [0.01, -0.02, 0.03, -0.04]
DIGEST = "sha256:" + 64 * "0"
PATH = "/aisandbox.v1.PolicyTrainerService/"
SERVER, ECHO = "inference-server", "echo"
PREDICTS = ("SB3 predict, aio", "SB3 predict, sync")
SERVERS = (SERVER, ECHO, "echo, aio", "echo, sync", *PREDICTS)
KINDS = ("unary", "stream", "public stream", f"batch of {BATCH}")
WARM_UP_CALLS = 100
TURN_SECONDS = 0.25


class Echo:
    """Answers with a constant."""

    def choose(self, observations: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return an action for each of the observations, float32 [N, 4]."""
        return np.zeros(len(observations), np.int64)

    def choose_one(self, observation: Sequence[float]) -> float:
        """Return an action for one observation of 4 numbers."""
        return 0.0

    def act(self, request: pb.ActRequest, context: Any = None) -> pb.ActResponse:
        """Act."""
        return pb.ActResponse(action=[self.choose_one(request.observation)], model=DIGEST, model_timesteps=1)

    def act_stream(self, requests: Iterable[pb.ActStreamRequest], context: Any) -> Iterator[pb.ActStreamResponse]:
        """ActStream."""
        for message in requests:
            yield self.reply(message)

    def reply(self, message: pb.ActStreamRequest) -> pb.ActStreamResponse:
        """Answer a message of ActStream."""
        return pb.ActStreamResponse(response=self.act(message.request))

    def act_batch(self, request: pb.ActBatchRequest, context: Any = None) -> pb.ActBatchResponse:
        """ActBatch."""
        actions = self.choose(decode_tensor(request.observations[0]))
        return pb.ActBatchResponse(actions=encode_tensor(actions), model=DIGEST, model_timesteps=1)


class Stopping(grpc.Status):
    """What a stream ends with when its server stops."""

    code, details, trailing_metadata = grpc.StatusCode.UNAVAILABLE, "stopping", ()


class Predict(Echo):
    """Answers with `predict` of a stable-baselines3 model, as a service written around it would."""

    def __init__(self, path: str) -> None:
        import torch
        from stable_baselines3 import PPO

        torch.set_num_threads(1)
        self._model = PPO.load(path, device="cpu")

    def choose(self, observations: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Predict for all of them."""
        return self._model.predict(observations, deterministic=True)[0]

    def choose_one(self, observation: Sequence[float]) -> float:
        """Predict."""
        return float(self._model.predict(np.array(observation, np.float32), deterministic=True)[0])


def serve(servicer: Echo, way: str) -> None:
    """Serve until killed: "direct" as the inference-server does, "sync" or "aio" with gRPC's servers."""
    if way == "aio":
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve_aio(servicer))
        return
    server = grpc.server(ThreadPoolExecutor(8))
    if way == "direct":
        calls = serve_methods(server, direct_methods(servicer), direct=True)
    else:
        add_calls(server, servicer.act, servicer.act_stream, servicer.act_batch)
    announce(server.add_insecure_port("127.0.0.1:0"))
    server.start()
    if way == "direct":
        calls.start()
    server.wait_for_termination()


async def serve_aio(servicer: Echo) -> None:
    async def act(request: pb.ActRequest, context: Any) -> pb.ActResponse:
        return servicer.act(request)

    async def act_stream(requests: Any, context: Any) -> AsyncIterator[pb.ActStreamResponse]:
        async for message in requests:
            yield servicer.reply(message)

    async def act_batch(request: pb.ActBatchRequest, context: Any) -> pb.ActBatchResponse:
        return servicer.act_batch(request)

    server = grpc.aio.server()
    add_calls(server, act, act_stream, act_batch)
    announce(server.add_insecure_port("127.0.0.1:0"))
    await server.start()
    await server.wait_for_termination()


def add_calls(server: Any, act: Any, act_stream: Any, act_batch: Any) -> None:
    unary, stream = grpc.unary_unary_rpc_method_handler, grpc.stream_stream_rpc_method_handler
    calls: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "Act": unary(act, pb.ActRequest.FromString, pb.ActResponse.SerializeToString),
        "ActStream": stream(act_stream, pb.ActStreamRequest.FromString, pb.ActStreamResponse.SerializeToString),
        "ActBatch": unary(act_batch, pb.ActBatchRequest.FromString, pb.ActBatchResponse.SerializeToString),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("aisandbox.v1.PolicyTrainerService", calls),))


def direct_methods(servicer: Echo) -> Methods:
    def method(request: Any, answer: Callable[[Any], Any]) -> UnaryMethod:
        def work(message: bytes, _caller: object) -> Answer[bytes]:
            yield from ()
            return answer(request.FromString(message)).SerializeToString()  # type: ignore[no-any-return]

        return work

    def status_of(name: str, error: Exception) -> grpc.Status:
        raise error

    unary = {"Act": method(pb.ActRequest, servicer.act), "ActBatch": method(pb.ActBatchRequest, servicer.act_batch)}
    streams = {"ActStream": lambda: method(pb.ActStreamRequest, servicer.reply)}
    return Methods(PATH.strip("/"), unary, {}, streams, status_of, Stopping())


def announce(port: int) -> None:
    print(json.dumps({"address": f"127.0.0.1:{port}"}), file=sys.stderr, flush=True)


def publish(models_dir: Path, zip_path: Path) -> None:
    """Write an untrained PPO policy of CartPole's size, once for stable-baselines3 and once as a published model."""
    import gymnasium as gym
    from aisandbox_model_store import RunStore
    from aisandbox_trainer.export.model_files import export_model
    from stable_baselines3 import PPO

    model = PPO("MlpPolicy", "CartPole-v1", device="cpu", seed=1)
    model.save(zip_path)
    environment = gym.make("CartPole-v1")
    files = export_model(
        model,
        observation_space=environment.observation_space,
        action_space=environment.action_space,
        vec_normalize=None,
        timesteps=1,
    )
    writer = RunStore(models_dir).run(RUN).claim(1)
    writer.point("latest", writer.publish_model(1, files))


@dataclass
class Series:
    """The seconds of every call of one kind to one server."""

    seconds: list[float] = field(default_factory=list)

    def figures(self, actions_a_call: int) -> dict[str, float]:
        """Return p50 and p99 in microseconds, and actions a second."""
        p50, p99 = np.percentile(self.seconds, [50, 99]) * 1e6
        rate = actions_a_call * len(self.seconds) / sum(self.seconds)
        return {
            "p50_us": float(p50),
            "p99_us": float(p99),
            "actions_per_second": float(rate),
            "calls": len(self.seconds),
        }


class PollingStream:
    """A stream whose caller polls for the reply itself, as gRPC's blocking unary calls do."""

    def __init__(self, address: str) -> None:
        self._stream: ClientStream = open_stream(address, PATH + "ActStream", direct=True)

    def exchange(self, request: pb.ActStreamRequest) -> pb.ActStreamResponse:
        """Send a message and return the reply."""
        self._stream.send(request.SerializeToString())
        return pb.ActStreamResponse.FromString(self._stream.receive())


class PublicStream:
    """A stream of gRPC's own."""

    def __init__(self, stub: policy_trainer_pb2_grpc.PolicyTrainerServiceStub) -> None:
        self._outbox: queue.SimpleQueue[pb.ActStreamRequest] = queue.SimpleQueue()
        self._replies: Iterator[pb.ActStreamResponse] = stub.ActStream(iter(self._outbox.get, None))

    def exchange(self, request: pb.ActStreamRequest) -> pb.ActStreamResponse:
        """Send a message and return the reply."""
        self._outbox.put(request)
        return next(self._replies)


class Client:
    """One channel to one server, and a way to call it for each kind."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address)
        stub = policy_trainer_pb2_grpc.PolicyTrainerServiceStub(self._channel)
        request = pb.ActRequest(run_id=RUN, observation=OBSERVATION)
        observations = np.random.default_rng(0).normal(size=(BATCH, len(OBSERVATION))).astype(np.float32)
        batch = pb.ActBatchRequest(run_id=RUN, observations=[encode_tensor(observations)])
        next_request = pb.ActStreamRequest(request=pb.ActRequest(observation=OBSERVATION))
        streams = PollingStream(address), PublicStream(stub)
        for stream in streams:
            stream.exchange(pb.ActStreamRequest(request=request))
        self.calls: dict[str, Callable[[], Any]] = {
            "unary": lambda: stub.Act(request).action[0],
            "stream": lambda: streams[0].exchange(next_request).response.action[0],
            "public stream": lambda: streams[1].exchange(next_request).response.action[0],
            KINDS[-1]: lambda: decode_tensor(stub.ActBatch(batch).actions)[BATCH - 1],
        }


def measure(clients: dict[str, Client], seconds: float) -> dict[str, dict[str, Series]]:
    """Return the times by kind and server, about ``seconds`` in all."""
    results = {kind: {name: Series() for name in clients} for kind in KINDS}
    for client in clients.values():
        for call in client.calls.values():
            for _ in range(WARM_UP_CALLS):
                call()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for kind in KINDS:
            for name, client in clients.items():
                take_turn(client.calls[kind], results[kind][name].seconds)
    return results


def take_turn(call: Callable[[], Any], times: list[float]) -> None:
    end = time.perf_counter() + TURN_SECONDS
    while (start := time.perf_counter()) < end:
        call()
        times.append(time.perf_counter() - start)


def start(arguments: list[str], environ: dict[str, str]) -> tuple[subprocess.Popen[str], str]:
    """Start a server process, and return it with the address it writes to stderr as JSON."""
    process = subprocess.Popen(
        [sys.executable, *arguments], env={**os.environ, **environ}, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if '"address"' in line:
            return process, json.loads(line)["address"]
    raise SystemExit(f"{arguments} ended before it served")


def report(results: dict[str, dict[str, dict[str, float]]]) -> None:
    console = Console()
    for kind, servers in results.items():
        table = Table(title=f"Act, {kind}: one call at a time", title_justify="left")
        for column in ("server", "p50 µs", "p99 µs", "actions/s", "x echo's p50", "x SB3's actions/s"):
            table.add_column(column, justify="left" if column == "server" else "right")
        best = max(servers[name]["actions_per_second"] for name in PREDICTS)
        for name, row in servers.items():
            table.add_row(
                name,
                f"{row['p50_us']:,.0f}",
                f"{row['p99_us']:,.0f}",
                f"{row['actions_per_second']:,.0f}",
                f"{row['p50_us'] / servers[ECHO]['p50_us']:.2f}",
                f"{row['actions_per_second'] / best:.2f}",
            )
        console.print(table)
    unary, stream, public = (results[kind][SERVER]["actions_per_second"] for kind in KINDS[:3])
    console.print(
        f"A stream answers {stream / unary:.2f} times as many as unary calls, a public one {public / unary:.2f}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to measure, about (default 60)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        what, way = arguments.serve
        serve(Echo() if what == "echo" else Predict(what), way)
        return
    with tempfile.TemporaryDirectory() as folder:
        models_dir, zip_path = Path(folder), Path(folder) / "model.zip"
        publish(models_dir, zip_path)
        predict = str(zip_path)
        serving = (("echo", "direct"), ("echo", "aio"), ("echo", "sync"), (predict, "aio"), (predict, "sync"))
        commands = [["-m", "aisandbox_inference"], *([__file__, "--serve", *what] for what in serving)]
        processes, clients = [], {}
        try:
            for name, command in zip(SERVERS, commands, strict=True):
                process, address = start(command, {"MODELS_DIR": folder, "GRPC_PORT": "0"})
                processes.append(process)
                clients[name] = Client(address)
            measured = measure(clients, arguments.seconds)
        finally:
            for process in processes:
                process.kill()
    results = {
        kind: {name: series.figures(BATCH if kind == KINDS[-1] else 1) for name, series in servers.items()}
        for kind, servers in measured.items()
    }
    if arguments.json:
        print(json.dumps(results))
    else:
        report(results)


if __name__ == "__main__":
    main()

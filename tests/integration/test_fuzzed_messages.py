"""Random and broken messages to every method of the servers, and random replies of a simulator to its client.

None may crash a server, end with INTERNAL or UNKNOWN, leave memory behind, or, with FUZZ_MESSAGES, take a second.
FUZZ_MESSAGES says how many (`make fuzz`: 240,000), FUZZ_SEED which. What was counted is printed.
"""

from __future__ import annotations

import asyncio
import math
import os
import resource
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import grpc
import pytest
from aisandbox.v1 import environment_pb2, simulator_pool_pb2, tensor_pb2, training_progress_pb2
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox_access import AccessSettings
from aisandbox_api import Server, Settings, create_server, simulator_checks
from aisandbox_api.local import LocalBackend
from aisandbox_api.space_checks import space_problems
from aisandbox_environment import SimulatorError, SimulatorSession, Timeouts, difference_of
from aisandbox_environment import session as session_module
from aisandbox_environment.spec import read_spec
from aisandbox_inference import Settings as InferenceSettings
from aisandbox_inference import create_policy_servicer
from aisandbox_inference import create_server as create_inference_server
from aisandbox_wire import WireError, encode_tensor, parse_bounded
from attached_simulators import registration
from credentials import metadata_of, token_file
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.struct_pb2 import Struct, Value
from grpc_health.v1 import health_pb2
from onnx_policies import LinearPolicy, publish
from pending_launcher import NeverReady
from random_messages import random_bytes
from summing_policies import SummingPolicy

MESSAGES = int(os.environ.get("FUZZ_MESSAGES", "1500"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))
LONGEST_SECONDS = 1.0 if "FUZZ_MESSAGES" in os.environ else math.inf
"""Of processor time, of all that the process does until the answer. Not held in the tests: on a busy machine the same
work takes more of it."""
AT_A_TIME = 8
MOST_GROWTH = 256 << 20
"""Bytes of memory between the first tenth of a long run and its end; of what is kept, all is bounded."""

POLICY_TRAINER = pb.DESCRIPTOR.services_by_name["PolicyTrainerService"]
PROGRESS = training_progress_pb2.DESCRIPTOR.services_by_name["TrainingProgressService"]
POOLS = simulator_pool_pb2.DESCRIPTOR.services_by_name["SimulatorPoolService"]
ENVIRONMENT = environment_pb2.DESCRIPTOR.services_by_name["EnvironmentService"]
SERVICES = (
    POLICY_TRAINER,
    PROGRESS,
    POOLS,
    ENVIRONMENT,
    health_pb2.DESCRIPTOR.services_by_name["Health"],
)
ADMIN = metadata_of("root")
HEADERS = (
    *(ADMIN,) * 12,
    *(metadata_of(who) for who in ("alice", "bob", "vera", "old", "nobody", None)),
    *(
        (("authorization", text),)
        for text in ("", "Bearer", "Bearer ", "Basic YTpi", "bearer " + "x" * 6000, "Bearer e30.e30.")
    ),
    *((*ADMIN, ("aisandbox-pool", text)) for text in ("arena", "", "A" * 70, "../x")),
    *((*ADMIN, ("aisandbox-run", text)) for text in ("r", "", "%00")),
)
"""The metadata of calls: of an administrator mostly, who is let through, and of others."""
ACTING = ("Act", "ActBatch", "ActStream", "GetModel", "DescribeModel")
UNFIT = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.CANCELLED)


def good_messages() -> dict[str, list[bytes]]:
    """Messages that are answered, to be changed here and there."""
    policy = LinearPolicy()
    tensors = [encode_tensor(leaf) for leaf in policy.sample(3)]
    numbers = [float(number) for leaf in policy.sample(1) for number in leaf.ravel()]
    act = pb.ActRequest(run_id="r", observation=numbers)
    masked = pb.ActRequest(run_id="masked", observation=numbers, action_mask=[True, False], episode_start=True)
    remembering = pb.ActRequest(run_id="remembering", observation=numbers, episode_start=True)
    start = pb.TrainingRequest(
        experiment_id="e",
        total_timesteps=1000,
        hyperparameters={"n_steps": "64", "learning_rate": "1e-3"},
        environment=pb.Environment(grpc=pb.GrpcEnvironment(address="127.0.0.1:1", environments=2)),
    )
    taught = pb.TrainingRequest(
        start_from=pb.StartFrom(run="r", take=[pb.TAKEN_PART_OPTIMIZER]),
        stop_when=pb.StopWhen(episode_reward_mean=1, times_in_a_row=2, training_seconds=9),
        evaluation=pb.Evaluation(every_timesteps=500),
        lessons=[
            pb.Lesson(name="near", until=pb.LessonEnd(reward=1, over_episodes=3)),
            pb.Lesson(name="far", parameters=Struct(fields={"gravity": Value(number_value=9.8)})),
        ],
    )
    taught.MergeFrom(start)
    acts = [each.SerializeToString() for each in (act, masked, remembering)]
    return {
        "ActRequest": acts,
        "ActStreamRequest": [
            pb.ActStreamRequest(request=pb.ActRequest.FromString(one)).SerializeToString() for one in acts
        ],
        "ActBatchRequest": [pb.ActBatchRequest(run_id="r", observations=tensors).SerializeToString()],
        "TrainingRequest": [start.SerializeToString(), taught.SerializeToString()],
        "AttachRequest": [registration(instance="one").SerializeToString()],
        "SimulatorRequest": [
            environment_pb2.SimulatorRequest(
                open=environment_pb2.OpenRequest(protocol_version=1, environments=1, run_id="r")
            ).SerializeToString()
        ],
    }


def now() -> tuple[float, float]:
    """Processor time of this process, and the clock."""
    return time.process_time(), time.perf_counter()


def resident_bytes() -> int:
    """The memory of this process; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()
    except FileNotFoundError:
        return 0


class Tally:
    """What became of the calls."""

    def __init__(self) -> None:
        self.codes: Counter[str] = Counter()
        self.unfit: list[str] = []
        self.slowest = 0.0
        self.longest_wait = 0.0
        self.memory: list[int] = []

    def count(self, code: grpc.StatusCode, what: str, began: tuple[float, float]) -> None:
        self.codes[code.name] += 1
        seconds, waited = time.process_time() - began[0], time.perf_counter() - began[1]
        self.slowest, self.longest_wait = max(self.slowest, seconds), max(self.longest_wait, waited)
        if code in UNFIT or seconds > LONGEST_SECONDS:
            self.unfit.append(f"{what}: {code.name} after {seconds:.2f} s")

    def measure(self) -> None:
        self.memory.append(resident_bytes())

    def check(self, name: str) -> None:
        total, growth = sum(self.codes.values()), self.memory[-1] - self.memory[0]
        print(f"\n{name}: {total:,} messages, {dict(self.codes.most_common())}, slowest {self.slowest * 1000:.0f} ms "
              f"of processor time, {self.longest_wait * 1000:.0f} ms by the clock, "
              f"memory {self.memory[0] >> 20} to {self.memory[-1] >> 20} MiB")  # fmt: skip
        assert self.unfit == []
        assert growth < MOST_GROWTH


async def hammer(
    channel_of: Callable[[Any], grpc.aio.Channel], methods: list[Any], count: int, random: Random
) -> Tally:
    """Sends ``count`` messages, AT_A_TIME at a time, each where its method is served."""
    tally, seeds = Tally(), good_messages()
    left = iter(range(count))
    tenth = max(1, count // 10)

    async def client() -> None:
        for number in left:
            method = random.choice(methods)
            data = random_bytes(GetMessageClass(method.input_type), random, seeds.get(method.input_type.name, ()))
            began = now()
            headers = random.choice(HEADERS)
            if method.client_streaming and ADMIN[0] not in headers:
                headers = ADMIN  # grpc.aio calls it INTERNAL when a stream is refused while it writes
            code, details = await answer(channel_of(method), method, data, headers)
            what = f"{method.name} {data[:200]!r} ({len(data)} bytes): {details[:200]}"
            tally.count(code, what, began)
            if number % tenth == tenth - 1:
                tally.measure()

    await asyncio.gather(*(client() for _ in range(AT_A_TIME)))
    return tally


async def answer(channel: Any, method: Any, data: bytes, metadata: Any) -> tuple[grpc.StatusCode, str]:
    path = f"/{method.containing_service.full_name}/{method.name}"
    try:
        if method.client_streaming:
            call = channel.stream_stream(path)(iter([data]), timeout=60, metadata=metadata)
            await call.read()
            call.cancel()
        elif method.server_streaming:
            call = channel.unary_stream(path)(data, timeout=60, metadata=metadata)
            await call.read()
            call.cancel()
        else:
            await channel.unary_unary(path)(data, timeout=60, metadata=metadata)
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details() or ""
    return grpc.StatusCode.OK, ""


def publish_policies(folder: Path) -> None:
    """The policies of the runs that good messages name."""
    publish(folder, LinearPolicy())
    publish(folder, LinearPolicy(masked=True), run="masked")
    publish(folder, SummingPolicy(), run="remembering")


@pytest.fixture
async def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    """A service with everything, which dials no simulator."""
    monkeypatch.setattr(simulator_checks, "_resolve", lambda address: [])
    publish_policies(tmp_path)
    access = AccessSettings(auth="token", token_file=token_file(tmp_path))
    settings = Settings(grpc_port=0, models_dir=tmp_path, max_concurrent_runs=1, max_pending_runs=20, access=access)
    policies = create_policy_servicer(InferenceSettings(models_dir=tmp_path, inference_threads=1))
    server = create_server(settings, backend=LocalBackend(settings, NeverReady()), policy_calls=policies)
    await server.start()
    yield server
    await server.stop(grace=0)
    policies.close()


async def test_service_survives_random_messages(service: Server) -> None:
    methods = [method for each in SERVICES for method in each.methods]
    async with (
        grpc.aio.insecure_channel(service.address) as clients,
        grpc.aio.insecure_channel(service.trainer_address) as trainers,
    ):

        def channel_of(method: Any) -> grpc.aio.Channel:
            return trainers if method.containing_service is PROGRESS else clients

        tally = await hammer(channel_of, methods, MESSAGES // 3, Random(SEED))
    tally.check("service")


async def test_inference_server_survives_random_messages(tmp_path: Path) -> None:
    publish_policies(tmp_path)
    access = AccessSettings(auth="token", token_file=token_file(tmp_path))
    settings = InferenceSettings(models_dir=tmp_path, grpc_port=0, inference_threads=1, access=access)
    server = create_inference_server(settings)
    server.start()
    methods = [POLICY_TRAINER.methods_by_name[name] for name in ACTING]
    async with grpc.aio.insecure_channel(server.address) as channel:
        tally = await hammer(lambda _method: channel, methods, MESSAGES // 3, Random(SEED + 1))
    server.stop(0)
    tally.check("inference-server")


class Replies:
    """A ClientStream whose simulator answers these."""

    def __init__(self, replies: Iterator[bytes]) -> None:
        self._replies = replies

    def send(self, request: bytes) -> None:
        pass

    def start_receive(self) -> None: ...

    def receive(self) -> bytes:
        return next(self._replies)

    def is_connected(self) -> bool:
        return True

    def cancel(self) -> None:
        pass

    finish = close = cancel


def open_reply() -> bytes:
    box = tensor_pb2.Space(box=tensor_pb2.Box(dtype=tensor_pb2.DATA_TYPE_FLOAT32, shape=[2]))
    actions = tensor_pb2.Space(discrete=tensor_pb2.Discrete(n=2))
    gravity = environment_pb2.EpisodeParameter(name="gravity", default=Value(number_value=9.8), minimum=0, maximum=20)
    level = environment_pb2.EpisodeParameter(name="level", default=Value(string_value="a"), choices=["a", "b"])
    spec = environment_pb2.EnvironmentSpec(
        observation_space=box, action_space=actions, action_masks=True, metrics=["goals"], parameters=[gravity, level]
    )
    return environment_pb2.SimulatorReply(open=environment_pb2.OpenReply(spec=spec)).SerializeToString()


def step_reply() -> bytes:
    tensor = tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_FLOAT32, shape=[2, 2], data=bytes(16))
    step = environment_pb2.StepReply(
        observations=[tensor], rewards=bytes(8), terminated=bytes(2), truncated=bytes(2), action_masks=bytes([1] * 4)
    )
    return environment_pb2.SimulatorReply(step=step).SerializeToString()


def reset_reply() -> bytes:
    tensor = tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_FLOAT32, shape=[2, 2], data=bytes(16))
    reset = environment_pb2.ResetReply(observations=[tensor], action_masks=bytes([1] * 4))
    return environment_pb2.SimulatorReply(reset=reset).SerializeToString()


def test_session_survives_random_replies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "FIRST_BACKOFF_SECONDS", 1e-6)
    monkeypatch.setattr(session_module, "MAX_BACKOFF_SECONDS", 1e-6)
    random, tally = Random(SEED + 2), Tally()
    first, reset, step = open_reply(), reset_reply(), step_reply()
    wanted, given, longest = MESSAGES // 3, 0, 0
    timeouts = Timeouts(connect=60, open=1e-3, reset=1e-3, step=1e-3, close=60)

    def replies() -> Iterator[bytes]:
        nonlocal given
        expected = iter([first, reset])
        while True:
            good = next(expected, step)
            given += 1
            fuzzed = random.random() < 0.5
            yield random_bytes(environment_pb2.SimulatorReply, random, [good]) if fuzzed else good

    while given < wanted:
        began = now()
        try:
            session = SimulatorSession.connect("127.0.0.1:1", 2, timeouts=timeouts, stream=lambda _: Replies(replies()))
            session.reset()
            for _ in range(10):
                session.send_step([1, 0])  # type: ignore[arg-type]
                session.receive_step()
            tally.count(grpc.StatusCode.OK, "session", began)
        except (SimulatorError, WireError) as error:
            tally.codes[type(error).__name__] += 1
            tally.slowest = max(tally.slowest, time.process_time() - began[0])
            longest = max(longest, len(str(error)))
        if len(tally.memory) < 2 or given >= wanted:
            tally.measure()
    print(f"\n{given:,} replies, the longest error {longest:,} characters")
    assert longest < 3000
    tally.check("sessions")


def test_descriptions_of_simulators_are_read_or_refused() -> None:
    random, tally = Random(SEED + 3), Tally()
    good = environment_pb2.DescribeResponse(
        protocol_version=1, spec=environment_pb2.SimulatorReply.FromString(open_reply()).open.spec
    )
    reference = read_spec(good.spec)
    for number in range(MESSAGES // 6):
        data = random_bytes(environment_pb2.DescribeResponse, random, [good.SerializeToString()])
        began = now()
        try:
            described = parse_bounded(environment_pb2.DescribeResponse, data)
            spec = read_spec(described.spec)
            space_problems(described.spec)
            assert len(difference_of(reference, spec)) < 5000
            outcome = grpc.StatusCode.OK
        except (DecodeError, WireError):
            outcome = grpc.StatusCode.INVALID_ARGUMENT
        tally.count(outcome, repr(data[:200]), began)
        if number in (MESSAGES // 60, MESSAGES // 6 - 1):
            tally.measure()
    tally.check("descriptions")

"""The server's end of a session: order, checks, what is in band and what ends the stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import grpc
import numpy as np
import pytest
from aisandbox.v1 import environment_pb2 as pb
from aisandbox.v1 import tensor_pb2
from aisandbox_environment.errors import Busy, InvalidOptions, InvalidRequest
from aisandbox_environment.session_handler import Capacity, SessionHandler
from aisandbox_environment.simulation import EpisodeMetrics, ResetResult, StepResult
from aisandbox_environment.spec import read_spec
from aisandbox_process.grpc_direct import StreamAborted
from aisandbox_wire.tensors import encode_tensor

SPEC = read_spec(
    pb.EnvironmentSpec(
        observation_space=tensor_pb2.Space(box=tensor_pb2.Box(dtype=tensor_pb2.DATA_TYPE_FLOAT32, shape=[1])),
        action_space=tensor_pb2.Space(
            box=tensor_pb2.Box(dtype=tensor_pb2.DATA_TYPE_FLOAT32, shape=[1], low=[-1], high=[1])
        ),
    )
)


class Simulation:
    """Hands out itself as its batch and answers a step with what ``answer`` makes."""

    name, version, spec = "test", "1", SPEC

    def __init__(self) -> None:
        self.options: Mapping[str, Any] | None = None
        self.seeds: list[Sequence[int] | None] = []
        self.steps: list[list[float]] = []
        self.closed = 0
        self.raises: BaseException | None = None

    def make(self, environments: int, options: Mapping[str, Any]) -> Simulation:
        if "unknown" in options:
            raise InvalidOptions("'unknown' is no option")
        self.n = environments
        self.options = options
        return self

    def reset(self, seeds: Sequence[int] | None) -> ResetResult:
        self.seeds.append(seeds)
        return ResetResult([np.zeros((self.n, 1))])

    def step(self, actions: np.ndarray) -> StepResult:
        if self.raises is not None:
            raise self.raises
        self.steps.append(actions[:, 0].tolist())
        ended = np.flatnonzero(actions[:, 0] == 1)
        return StepResult(
            [np.asarray(actions)],
            np.ones(self.n),
            actions[:, 0] == 1,
            np.zeros(self.n, np.bool_),
            ended,
            [np.full((len(ended), 1), 7.0)] if len(ended) else [],
            episode_metrics=[EpisodeMetrics(int(i), {"x": 1.0}) for i in ended],
        )

    def close(self) -> None:
        self.closed += 1


class Client:
    """Speaks to a session without a network."""

    def __init__(self, capacity: int = 0) -> None:
        self.simulation = Simulation()
        self.capacity = Capacity(capacity)
        self.session = SessionHandler(self.simulation, self.capacity)

    def ask(self, **request: Any) -> pb.SimulatorReply:
        return pb.SimulatorReply.FromString(self.session.handle(pb.SimulatorRequest(**request).SerializeToString()))

    def open(self, environments: int = 2, version: int = 1, **options: Any) -> pb.SimulatorReply:
        request = pb.OpenRequest(protocol_version=version, environments=environments)
        request.options.update(options)
        return self.ask(open=request)

    def step(self, *actions: float, dtype: Any = np.float32) -> pb.SimulatorReply:
        return self.ask(step=pb.StepRequest(actions=encode_tensor(np.array(actions, dtype)[:, np.newaxis])))


def test_session_opens_resets_and_steps() -> None:
    client = Client()
    assert client.open(level=8, name="x", nested={"ratio": 0.5, "sizes": [1, 2]}).open.spec == SPEC.to_proto()
    assert client.simulation.options == {"level": 8, "name": "x", "nested": {"ratio": 0.5, "sizes": [1, 2]}}
    assert isinstance(client.simulation.options["level"], int)
    client.ask(reset=pb.ResetRequest(seeds=[2**64 - 1, 1]))
    client.ask(reset=pb.ResetRequest())
    assert client.simulation.seeds == [[2**64 - 1, 1], None]
    calm = client.step(0.5, -1).step
    assert np.frombuffer(calm.observations[0].data, "<f4").tolist() == [0.5, -1]
    assert np.frombuffer(calm.rewards, "<f4").tolist() == [1, 1]
    assert (calm.terminated, calm.truncated) == (b"\0\0", b"\0\0")
    assert not calm.final_observations


def test_final_observations_and_metrics_are_only_in_the_reply_to_an_end() -> None:
    client = Client()
    client.open()
    client.ask(reset=pb.ResetRequest())
    for _ in range(2):
        ended = client.step(0, 1).step
        assert ended.terminated == b"\0\1"
        assert np.frombuffer(ended.final_observations[0].data, "<f4").tolist() == [7]
        assert [m.environment for m in ended.episode_metrics] == [1]
        calm = client.step(0, 0).step
        assert not calm.final_observations
        assert not calm.episode_metrics


def test_requests_out_of_order_are_refused_in_band() -> None:
    client = Client()
    client.open()
    assert client.step(0, 0).error.code == pb.SIMULATOR_ERROR_CODE_OUT_OF_ORDER
    assert "the first step needs a reset before it" in client.step(0, 0).error.message
    assert client.open().error.code == pb.SIMULATOR_ERROR_CODE_OUT_OF_ORDER
    client.ask(reset=pb.ResetRequest())
    assert client.step(0, 0).WhichOneof("reply") == "step"


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (encode_tensor(np.zeros((2, 1))), "step.actions: has dtype float64"),
        (encode_tensor(np.zeros((1, 1), np.float32)), r"step.actions: has shape \[1, 1\]"),
        (encode_tensor(np.full((2, 1), np.nan, np.float32)), "step.actions: element .* not finite"),
        (encode_tensor(np.full((2, 1), 1.5, np.float32)), "step.actions: element .* outside the bounds"),
        (tensor_pb2.Tensor(), "step.actions.dtype: DATA_TYPE_UNSPECIFIED is not a data type"),
    ],
)
def test_action_outside_its_space_is_refused_and_changes_nothing(tensor: tensor_pb2.Tensor, message: str) -> None:
    client = Client()
    client.open()
    client.ask(reset=pb.ResetRequest())
    error = client.ask(step=pb.StepRequest(actions=tensor)).error
    assert error.code == pb.SIMULATOR_ERROR_CODE_INVALID_ARGUMENT
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(error.message)
    assert client.simulation.steps == []
    assert client.step(0, 0).WhichOneof("reply") == "step"


def test_wrong_number_of_seeds_is_refused_in_band() -> None:
    client = Client()
    client.open()
    error = client.ask(reset=pb.ResetRequest(seeds=[1])).error
    assert "reset.seeds: got 1, expected none or one" in error.message
    assert client.simulation.seeds == []


def test_request_of_no_known_kind_is_refused_in_band() -> None:
    client = Client()
    client.open()
    assert client.ask().error.code == pb.SIMULATOR_ERROR_CODE_INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Busy("loading"), pb.SIMULATOR_ERROR_CODE_BUSY),
        (InvalidRequest("no"), pb.SIMULATOR_ERROR_CODE_INVALID_ARGUMENT),
    ],
)
def test_refusal_of_the_simulation_is_in_band(error: Exception, code: int) -> None:
    client = Client()
    client.open()
    client.ask(reset=pb.ResetRequest())
    client.simulation.raises = error
    reply = client.step(0, 0).error
    assert (reply.code, reply.message) == (code, str(error))
    client.simulation.raises = None
    assert client.step(0, 0).WhichOneof("reply") == "step"


def ends(client: Client, code: grpc.StatusCode, message: str, request: bytes) -> None:
    with pytest.raises(StreamAborted, match=message) as caught:
        client.session.handle(request)
    assert caught.value.code is code


def opening(**fields: Any) -> bytes:
    return pb.SimulatorRequest(open=pb.OpenRequest(**fields)).SerializeToString()


@pytest.mark.parametrize(
    ("error", "message"),
    [(RuntimeError("division by zero"), "RuntimeError: division"), (SystemExit(3), "SystemExit: 3")],
)
def test_exception_of_a_simulation_ends_the_stream_with_its_message(error: BaseException, message: str) -> None:
    client = Client()
    client.open()
    client.ask(reset=pb.ResetRequest())
    client.simulation.raises = error
    request = pb.SimulatorRequest(step=pb.StepRequest(actions=encode_tensor(np.zeros((2, 1), np.float32))))
    ends(client, grpc.StatusCode.INTERNAL, f"failed on 'step': {message}", request.SerializeToString())


def test_request_that_breaks_the_contract_ends_the_stream() -> None:
    invalid = grpc.StatusCode.INVALID_ARGUMENT
    ends(Client(), invalid, "first request of a session is `open`", pb.SimulatorRequest().SerializeToString())
    ends(Client(), invalid, "not a SimulatorRequest", b"\xff\xff\xff")
    ends(Client(), invalid, "open.environments: must be at least 1, got 0", opening(protocol_version=1))
    ends(Client(), grpc.StatusCode.FAILED_PRECONDITION, "version 2, this simulator 1", opening(protocol_version=2))


def test_unknown_options_end_the_stream_and_reserve_nothing() -> None:
    client = Client(capacity=2)
    with pytest.raises(StreamAborted, match=r"open\.options: 'unknown' is no option") as caught:
        client.open(unknown=1)
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert client.capacity.in_use == 0


def test_capacity_is_reserved_and_released() -> None:
    client = Client(capacity=3)
    client.open(2)
    other = SessionHandler(client.simulation, client.capacity)
    with pytest.raises(StreamAborted, match="2 environments were requested and 1 of 3 are free") as caught:
        other.handle(opening(protocol_version=1, environments=2))
    assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    other.close()
    assert client.capacity.in_use == 2
    client.session.close()
    client.session.close()
    assert client.capacity.in_use == 0
    assert client.simulation.closed == 1

"""Parameters of episodes: their declaration, and how a simulation gets values for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
from aisandbox.v1 import environment_pb2 as pb
from aisandbox_environment import (
    AdapterSimulation,
    FakeExternalEnvAdapter,
    GrpcExternalEnvAdapter,
    GymnasiumSimulation,
    Parameter,
    RefusedRequest,
    SimulatorSession,
    create_environment_server,
)
from aisandbox_environment.compliance.parameters import values_to_refuse
from aisandbox_environment.parameters import checked_parameters, parameters_from_metadata
from aisandbox_environment.session_handler import Capacity, SessionHandler
from aisandbox_environment.spec import make_spec, read_spec
from aisandbox_wire import InvalidSpace, box, discrete, encode_tensor
from google.protobuf.struct_pb2 import Struct

DECLARED = (
    Parameter("distance", 10.0, minimum=1.0, maximum=30.0, description="to the goal"),
    Parameter("walls", 2, minimum=0, whole=True),
    Parameter("floor", "stone", choices=("stone", "ice")),
    Parameter("wind", False),
)


def test_declaration_travels() -> None:
    spec = make_spec(box([1]), discrete(2), parameters=DECLARED)
    assert read_spec(pb.EnvironmentSpec.FromString(spec.to_proto().SerializeToString())).parameters == DECLARED


@pytest.mark.parametrize(
    ("parameter", "says"),
    [
        (Parameter("", 1.0), "parameters[0].name: must be 1 to 64"),
        (Parameter("9", 1.0), "parameters[0].name: must be 1 to 64"),
        (Parameter("a", 5.0, maximum=4.0), "parameters[0].default: must be a finite number of at most 4, got 5.0"),
        (Parameter("a", float("nan")), "parameters[0].default: must be a finite number"),
        (Parameter("a", 1.0, minimum=float("-inf")), "parameters[0].minimum: must be finite"),
        (Parameter("a", 0.5, whole=True), "parameters[0].default: must be a whole number"),
        (Parameter("a", "x", choices=("y",)), "parameters[0].default: must be one of y"),
        (Parameter("a", None), "parameters[0]: has a value of a wrong type"),  # type: ignore[arg-type]
    ],
)
def test_wrong_declaration_is_refused(parameter: Parameter, says: str) -> None:
    with pytest.raises(InvalidSpace) as refused:
        checked_parameters([parameter])
    assert says in str(refused.value)


def test_declaration_of_one_name_twice_or_of_too_many_is_refused() -> None:
    with pytest.raises(InvalidSpace, match="which an earlier parameter has too"):
        checked_parameters([Parameter("a", 1.0), Parameter("a", 2.0)])
    with pytest.raises(InvalidSpace, match="has 65 entries; at most 64"):
        checked_parameters([Parameter(f"p{i}", 1.0) for i in range(65)])


def test_declaration_in_the_metadata_of_gymnasium() -> None:
    declared = {
        "distance": {"default": np.float32(2), "maximum": 3},
        "walls": 1,
        "floor": {"default": "a", "choices": ["a"]},
    }
    assert parameters_from_metadata(declared) == (
        Parameter("distance", 2.0, maximum=3.0),
        Parameter("walls", 1.0),
        Parameter("floor", "a", choices=("a",)),
    )
    wrong_ones: list[Any] = [[1], {"a": {}}, {"a": {"default": 1, "min": 0}}, {"a": {"default": [1]}}]
    for wrong in wrong_ones:
        with pytest.raises(InvalidSpace, match="metadata"):
            parameters_from_metadata(wrong)


class Recorder(FakeExternalEnvAdapter):
    """Remembers what each episode was given."""

    parameters: Sequence[Parameter] = DECLARED
    given: ClassVar[list[Any]] = []

    def reset(self, seed: int | None = None, parameters: Mapping[str, Any] | None = None) -> np.ndarray:
        self.given.append(parameters)
        return super().reset(seed)


@pytest.fixture
def given() -> list[Any]:
    Recorder.given.clear()
    return Recorder.given


def _struct(**values: Any) -> Struct:
    struct = Struct()
    struct.update(values)
    return struct


def _actions(n: int) -> Any:
    return encode_tensor(np.zeros(n, np.int64))


def test_episodes_get_parameters_at_resets_and_where_they_begin_by_themselves(given: list[Any]) -> None:
    with (
        create_environment_server(AdapterSimulation(lambda: Recorder(2))) as server,
        SimulatorSession.connect(server.address, 2) as session,
    ):
        session.reset()
        assert given == [None, None]
        session.reset([1, 2], {1: {"distance": 3, "walls": 4}})
        assert given[2:] == [None, {"distance": 3.0, "walls": 4, "floor": "stone", "wind": False}]
        assert isinstance(given[3]["walls"], int)
        session.step(np.zeros(2, np.int64))
        session.send_step(np.zeros(2, np.int64), {0: {"floor": "ice"}})  # the episodes end in this step
        assert len(session.receive_step().ended) == 2
        assert [each["floor"] for each in given[4:]] == ["ice", "stone"]
        assert [each["distance"] for each in given[4:]] == [10.0, 3.0]
        with pytest.raises(
            RefusedRequest, match=r"environment_parameters\[1\].distance: must be .* got 31.0.*distance=31"
        ):
            session.reset(None, {1: {"distance": 31}})
        session.reset()
        assert [each["distance"] for each in given[6:]] == [10.0, 3.0]


def test_parameters_are_not_sent_to_a_simulator_that_declares_none() -> None:
    with (
        create_environment_server(GymnasiumSimulation("CartPole-v1")) as server,
        SimulatorSession.connect(server.address, 1) as session,
        pytest.raises(ValueError, match="declares none"),
    ):
        session.reset(None, {0: {"distance": 3}})


def test_wrong_parameters_are_refused_and_change_nothing(given: list[Any]) -> None:
    session = SessionHandler(AdapterSimulation(lambda: Recorder(1)), Capacity(0))

    def ask(**request: Any) -> pb.SimulatorReply:
        return pb.SimulatorReply.FromString(session.handle(pb.SimulatorRequest(**request).SerializeToString()))

    ask(open=pb.OpenRequest(protocol_version=1, environments=1))
    ask(reset=pb.ResetRequest(parameters=_struct(distance=2)))
    before = list(given)
    wrong = [
        (pb.ResetRequest(parameters=_struct(speed=1)), "reset.parameters.speed: is unknown; declared are distance"),
        (pb.ResetRequest(parameters=_struct(wind="yes")), "reset.parameters.wind: must be true or false"),
        (pb.ResetRequest(environment_parameters={1: _struct()}), "numbered from 0 to 0"),
    ]
    for request, says in wrong:
        error = ask(reset=request).error
        assert error.code == pb.SIMULATOR_ERROR_CODE_INVALID_ARGUMENT
        assert says in error.message
    error = ask(step=pb.StepRequest(actions=_actions(1), next_parameters={0: _struct(walls=0.5)})).error
    assert "step.next_parameters[0].walls: must be a whole number" in error.message
    assert given == before
    ask(step=pb.StepRequest(actions=_actions(1)))
    assert given[-1]["distance"] == 2.0


def test_simulation_that_declares_parameters_must_take_them() -> None:
    class Batch:
        spec = make_spec(box([1]), discrete(2), parameters=DECLARED)

    class Simulation:
        name, version, spec = "test", "", Batch.spec

        def make(self, environments: int, options: Mapping[str, Any]) -> Any:
            return Batch()

    session = SessionHandler(Simulation(), Capacity(0))
    opening = pb.SimulatorRequest(open=pb.OpenRequest(protocol_version=1, environments=1))
    with pytest.raises(Exception, match="has no method set_parameters"):
        session.handle(opening.SerializeToString())


def test_gymnasium_environment_gets_them_as_options_of_its_reset() -> None:
    given: list[Any] = []

    class Env(gym.Env[Any, Any]):
        metadata: Any = {"parameters": {"distance": {"default": 2.0, "maximum": 9.0}}}  # noqa: RUF012 -- as Gymnasium has it
        observation_space, action_space = gym.spaces.Box(0, 1, (1,)), gym.spaces.Discrete(2)

        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            given.append(options and dict(options))
            if options:
                options.clear()
            return np.zeros(1, np.float32), {}

        def step(self, action: Any) -> Any:
            return np.zeros(1, np.float32), 0.0, True, False, {}

    entry_point: Any = Env
    gym.register("Declares-v0", entry_point=entry_point)
    simulation = GymnasiumSimulation("Declares-v0")
    assert simulation.spec.parameters == (Parameter("distance", 2.0, maximum=9.0),)
    batch = simulation.make(1, {})
    batch.reset(None)
    batch.set_parameters(0, {"distance": 5.0})
    batch.step(np.zeros(1, np.int64))
    batch.reset([1])
    assert given == [None, {"distance": 5.0}, {"distance": 5.0}]


def test_remote_adapter_starts_an_episode_for_other_parameters(given: list[Any]) -> None:
    with create_environment_server(AdapterSimulation(lambda: Recorder(1))) as server:
        adapter = GrpcExternalEnvAdapter(server.address)
        assert adapter.parameters == DECLARED
        adapter.reset(parameters={"distance": 3.0})
        adapter.step(0)  # type: ignore[arg-type]
        begun = len(given)
        adapter.reset(parameters={"distance": 3.0})
        assert len(given) == begun, "that episode has begun"
        adapter.reset(parameters={"distance": 4.0})
        assert given[-1]["distance"] == 4.0
        adapter.close()


def test_values_that_must_be_refused_are_out_of_the_range() -> None:
    largest = 1.7976931348623157e308
    declared = [Parameter("far", 1e300, minimum=-1e300, maximum=1e300), Parameter("any", 0.0, -largest, largest)]
    tried = dict(values_to_refuse(declared))
    for parameter in declared:
        assert all(parameter.problem(each[parameter.name]) for each in tried.values() if parameter.name in each)
    assert {"far above its range", "far below its range"} <= tried.keys()
    assert "any above its range" not in tried

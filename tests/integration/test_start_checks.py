"""Starts whose hyperparameters or options do not fit a simulator that can be asked: refused before there is a run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1.policy_trainer_pb2_grpc import PolicyTrainerServiceStub
from aisandbox_api import Settings, create_server, simulator_checks
from aisandbox_api.environment_checks import check_environment
from aisandbox_api.errors import InvalidRequest
from aisandbox_api.local import LocalBackend
from aisandbox_crds import spec_from_json
from aisandbox_environment import AdapterSimulation, FakeExternalEnvAdapter, Parameter
from aisandbox_environment.errors import InvalidOptions
from aisandbox_environment.server import create_environment_server
from aisandbox_environment.spec import Spec, make_spec
from aisandbox_wire import box, dict_space, discrete, multi_binary
from google.protobuf.struct_pb2 import Struct
from pending_launcher import NeverReady
from waiting import wait_until

SPACES = dict_space(
    {
        "position": box([3]),
        "camera": box([48, 48, 3], 0, 255, "uint8"),
        "mode": discrete(3),
        "lamps": multi_binary(4),
    }
)
VECTOR = box([3])


class Batch:
    """Environments that are opened and closed."""

    def __init__(self, spec: Spec, closed: Callable[[], None]) -> None:
        self.spec = spec
        self.close = closed


class Simulation:
    """Has continuous actions with the option ``continuous``, and knows no other."""

    name, version = "test", ""

    def __init__(self, observations: Any, parameters: Sequence[Parameter] = ()) -> None:
        self.observations = observations
        self.made: list[Mapping[str, Any]] = []
        self.closed = 0
        self.spec = make_spec(observations, discrete(2), parameters=parameters)

    def _close(self) -> None:
        self.closed += 1

    def make(self, environments: int, options: Mapping[str, Any]) -> Batch:
        self.made.append(options)
        if unknown := set(options) - {"continuous"}:
            raise InvalidOptions(f"{unknown.pop()!r} is unknown; known: continuous")
        actions = box([2], -1, 1) if options.get("continuous") else discrete(2)
        return Batch(make_spec(self.observations, actions), self._close)


Start = Callable[..., Any]


@pytest.fixture
async def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Start]:
    """start(simulation, hyperparameters, options, method=...) -> the run_id. Raises AioRpcError."""
    monkeypatch.setattr(simulator_checks, "DESCRIBE_SECONDS", 60.0)  # a busy machine may need more than the usual 2 s
    async with AsyncExitStack() as stack:
        settings = Settings(grpc_port=0, models_dir=tmp_path, max_concurrent_runs=1)
        server = create_server(settings, backend=LocalBackend(settings, NeverReady()))
        await server.start()
        stack.push_async_callback(server.stop, grace=0)
        stub = PolicyTrainerServiceStub(await stack.enter_async_context(grpc.aio.insecure_channel(server.address)))

        async def start(
            simulation: Any,
            hyperparameters: Mapping[str, str] | None = None,
            options: Mapping[str, Any] | None = None,
            method: str = "StartTrainingPPO",
            capacity: int = 0,
            evaluation: pb.Evaluation | None = None,
            environments: int = 0,
            beside: Any = None,
            lessons: Sequence[pb.Lesson] = (),
        ) -> str:
            addresses = []
            for each in filter(None, (simulation, beside)):
                simulator = create_environment_server(each, capacity=capacity)
                simulator.start()
                stack.callback(simulator.stop, 0)
                addresses.append(simulator.address)
            struct = Struct()
            struct.update(dict(options or {}))
            grpc_environment = pb.GrpcEnvironment(
                address=", ".join(addresses), options=struct, environments=environments
            )
            request = pb.TrainingRequest(
                experiment_id="e",
                total_timesteps=1000,
                environment=pb.Environment(grpc=grpc_environment),
                hyperparameters=hyperparameters,
                evaluation=evaluation,
                lessons=lessons,
            )
            try:
                run_id: str = (await getattr(stub, method)(request)).run_id
            except grpc.aio.AioRpcError:
                assert not (await stub.ListTrainingRuns(pb.ListTrainingRunsRequest())).runs
                raise
            return run_id

        yield start


async def refusal(call: Any) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    return refused.value.details() or ""


@pytest.mark.parametrize(
    ("observations", "hyperparameters", "field", "works"),
    [
        (SPACES, {"policy": "MlpPolicy"}, "hyperparameters.policy", "use MultiInputPolicy"),
        (VECTOR, {"policy": "CnnPolicy"}, "hyperparameters.policy", "use MlpPolicy"),
        (VECTOR, {"policy": "MultiInputPolicy"}, "hyperparameters.policy", "use MlpPolicy"),
        (VECTOR, {"normalize": "dict(norm_obs_keys=['x'])"}, "hyperparameters.normalize", "omit norm_obs_keys"),
        (SPACES, {"normalize": "dict(norm_obs_keys=['x'])"}, "hyperparameters.normalize", "can name 'position'"),
        (SPACES, {"normalize": "dict(norm_obs_keys=['mode'])"}, "hyperparameters.normalize", "can name 'position'"),
        (discrete(4), {"normalize": "True"}, "hyperparameters.normalize", "normalize=dict(norm_obs=False)"),
        (SPACES, {"frame_stack": "4"}, "hyperparameters.frame_stack", "omit frame_stack"),
        (VECTOR, {"use_sde": "True"}, "hyperparameters.use_sde", "omit use_sde"),
    ],
)
async def test_hyperparameters_that_do_not_fit_the_spaces_are_refused_with_what_works(
    start: Start, observations: Any, hyperparameters: dict[str, str], field: str, works: str
) -> None:
    message = await refusal(start(Simulation(observations), hyperparameters))
    assert message.startswith(f"{field}: ")
    assert works in message
    assert "declared by the simulator at 127.0.0.1:" in message


@pytest.mark.parametrize(
    "hyperparameters",
    [
        {"normalize": "True"},
        {"normalize": '{"norm_obs_keys": ["position"]}'},
        {"policy": "MultiInputPolicy"},
        {"normalize": "dict(norm_obs=false)"},
    ],
)
async def test_hyperparameters_that_fit_the_spaces_are_accepted(start: Start, hyperparameters: dict[str, str]) -> None:
    assert await start(Simulation(SPACES), hyperparameters)


class Masked(Simulation):
    """Says which actions are allowed; takes no options."""

    def __init__(self) -> None:
        super().__init__(VECTOR)
        self.spec = make_spec(VECTOR, discrete(2), action_masks=True)


async def test_algorithm_that_cannot_obey_masks_is_refused_with_those_that_can(start: Start) -> None:
    message = await refusal(start(Masked(), method="StartTrainingA2C"))
    assert message.startswith("environment.grpc.address: ")
    assert "A2C cannot obey action masks, and they are declared; use PPO or MaskablePPO" in message


async def test_ppo_is_accepted_where_masks_are_declared(start: Start) -> None:
    assert await start(Masked(), {"sde_sample_freq": "4", "policy_kwargs": "dict(log_std_init=-1)"})


async def test_option_that_the_simulator_does_not_know_is_refused(start: Start) -> None:
    message = await refusal(start(Simulation(VECTOR), options={"gravity": 3}))
    assert message.startswith("environment.grpc.options: the simulator at 127.0.0.1:")
    assert "'gravity' is unknown; known: continuous" in message


async def test_spaces_are_those_with_the_options(start: Start) -> None:
    simulation = Simulation(VECTOR)
    message = await refusal(start(simulation, options={"continuous": True}, method="StartTrainingDQN"))
    assert "DQN takes only discrete actions, and they are a Box of float32 [2]; use PPO, A2C, SAC" in message
    assert await start(Simulation(VECTOR), {"use_sde": "True"}, options={"continuous": True})
    assert simulation.made == [{"continuous": True}]
    await asyncio.to_thread(wait_until, lambda: simulation.closed == 1)


@pytest.mark.parametrize(
    ("beside", "difference"),
    [
        (box([4]), "observation_space: Box float32 [4]"),
        (SPACES, "observation_space: a Dict of ['position', 'camera', 'mode', 'lamps'], not Box float32 [3]"),
    ],
)
async def test_simulators_with_different_spaces_are_refused_with_the_difference(
    start: Start, beside: Any, difference: str
) -> None:
    message = await refusal(start(Simulation(VECTOR), beside=Simulation(beside)))
    assert message.startswith("environment.grpc.address: the simulator at 127.0.0.1:")
    assert "has other spaces or parameters than the simulator at 127.0.0.1:" in message
    assert difference in message


async def test_simulators_with_the_same_spaces_are_accepted(start: Start) -> None:
    assert await start(Simulation(SPACES), beside=Simulation(SPACES))


async def test_simulator_without_options_is_not_opened(start: Start) -> None:
    simulation = Simulation(VECTOR)
    assert await start(simulation)
    assert simulation.made == []


@pytest.mark.parametrize(("capacity", "environments"), [(1, 1), (1, 0), (4, 4)])
async def test_evaluation_that_has_no_environment_left_is_refused(
    start: Start, capacity: int, environments: int
) -> None:
    message = await refusal(
        start(Simulation(VECTOR), capacity=capacity, environments=environments, evaluation=pb.Evaluation())
    )
    assert message.startswith("evaluation: takes one more environment, and the simulator at 127.0.0.1:")
    assert f"carries {capacity}, all of them for training: leave evaluation out" in message


@pytest.mark.parametrize("capacity", [0, 2])
async def test_evaluation_with_an_environment_to_spare_is_accepted(start: Start, capacity: int) -> None:
    assert await start(Simulation(VECTOR), capacity=capacity, environments=1, evaluation=pb.Evaluation())


@pytest.fixture
async def start_gymnasium(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Start]:
    """start(id, hyperparameters, method=..., **kwargs) -> the run_id. Raises AioRpcError."""
    monkeypatch.setenv("TRAINER_MEMORY_BYTES", str(10**9))
    settings = Settings(grpc_port=0, models_dir=tmp_path, max_concurrent_runs=1)
    server = create_server(settings, backend=LocalBackend(settings, NeverReady()))
    await server.start()
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub = PolicyTrainerServiceStub(channel)

        async def start(
            environment_id: str,
            hyperparameters: Mapping[str, str] | None = None,
            method: str = "StartTrainingPPO",
            **kwargs: Any,
        ) -> str:
            environment = pb.Environment(gymnasium=pb.GymnasiumEnvironment(id=environment_id))
            environment.gymnasium.kwargs.update(kwargs)
            request = pb.TrainingRequest(
                experiment_id="e", total_timesteps=1000, environment=environment, hyperparameters=hyperparameters
            )
            run_id: str = (await getattr(stub, method)(request)).run_id
            return run_id

        yield start
    await server.stop(grace=0)


@pytest.mark.parametrize(
    ("environment", "method", "hyperparameters", "message"),
    [
        ("Pendulum-v1", "DQN", {}, "environment.gymnasium.id: Pendulum-v1: DQN takes only discrete actions"),
        ("CartPole-v1", "PPO", {"policy": "CnnPolicy"}, "hyperparameters.policy: CnnPolicy needs images"),
        ("FrozenLake-v1", "A2C", {"normalize": "True"}, "hyperparameters.normalize: only a Box can be normalised"),
        (
            "CartPole-v1",
            "DQN",
            {"buffer_size": "100000000"},
            "environment.gymnasium.id: with the spaces of",
        ),
    ],
)
async def test_hyperparameters_that_do_not_fit_an_environment_of_gymnasium_are_refused(
    start_gymnasium: Start, environment: str, method: str, hyperparameters: dict[str, str], message: str
) -> None:
    refused = await refusal(start_gymnasium(environment, hyperparameters, f"StartTraining{method}"))
    assert refused.startswith(message)


async def test_keyword_arguments_that_an_environment_of_gymnasium_does_not_take_are_refused(
    start_gymnasium: Start,
) -> None:
    refused = await refusal(start_gymnasium("CartPole-v1", gravity_of_mars=3.7))
    assert refused.startswith("environment.gymnasium.kwargs: gymnasium.make('CartPole-v1'")
    assert "gravity_of_mars" in refused


@pytest.mark.parametrize(
    ("environment", "kwargs"),
    [
        ("CartPole-v1", {"sutton_barto_reward": True}),
        ("no_such_module:Own-v0", {}),
        ("FrozenLake-v1", {"map_name": "x"}),
    ],
)
async def test_environment_that_cannot_be_made_here_is_left_to_the_trainer(
    start_gymnasium: Start, environment: str, kwargs: dict[str, Any]
) -> None:
    assert await start_gymnasium(environment, **kwargs)


def lesson(**parameters: Any) -> pb.Lesson:
    made = pb.Lesson(name="only")
    made.parameters.update(parameters)
    return made


async def test_lessons_that_do_not_fit_the_simulator_are_refused(start: Start) -> None:
    declares = Simulation(VECTOR, [Parameter("distance", 2.0, minimum=1.0, maximum=9.0)])
    said = await refusal(start(declares, lessons=[lesson(distance=3, speed=3)]))
    assert "lessons[0].parameters.speed: is unknown; the simulator at 127.0.0.1:" in said
    assert said.endswith("declares distance")
    assert "at least 1 and at most 9, got 10" in await refusal(start(declares, lessons=[lesson(distance=10)]))
    said = await refusal(start(Simulation(VECTOR), lessons=[lesson()]))
    assert said.startswith("lessons: need parameters, and the simulator at 127.0.0.1:")
    assert said.endswith("declares none")
    assert await start(declares, lessons=[lesson(distance={"uniform": [1, 9]})])


def run_on(environment: dict[str, Any], lessons: list[dict[str, Any]], algorithm: str = "PPO") -> Any:
    run = {"algorithm": algorithm, "totalTimesteps": 100, "environment": environment, "lessons": lessons}
    return spec_from_json(run)


ARENA = {"pool": {"name": "arena"}}


@pytest.mark.parametrize(
    ("environment", "lessons", "algorithm", "message"),
    [
        (
            {"gymnasium": {"id": "CartPole-v1"}},
            [{"name": "only"}],
            "PPO",
            "lessons: need parameters, and CartPole-v1 declares none",
        ),
        (
            {"fake": {}},
            [{"name": "only", "parameters": {"gravity": 3}}],
            "PPO",
            "lessons.0..parameters.gravity: is unknown; the built-in environment declares start",
        ),
        (
            {"fake": {}},
            [{"name": "only", "parameters": {"start": 2}}],
            "PPO",
            "at least 0 and at most 1, got 2; declared by the built-in environment",
        ),
        ({"fake": {}}, [], "SAC", "environment.fake: the built-in environment: SAC takes only Box actions"),
        (
            ARENA,
            [{"name": "only", "parameters": {"gravity": 3}}],
            "PPO",
            "lessons.0..parameters.gravity: is unknown; pool 'arena' declares start",
        ),
        (ARENA, [{"name": "only", "parameters": {"start": {"uniform": [0, 2]}}}], "PPO", "declared by pool 'arena'"),
        (ARENA, [], "TD3", "environment.pool.name: pool 'arena': TD3 takes only Box actions"),
    ],
)
async def test_run_that_does_not_fit_what_is_declared_is_refused(
    environment: dict[str, Any], lessons: list[dict[str, Any]], algorithm: str, message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message):
        await check_environment(run_on(environment, lessons, algorithm), arena)


async def arena(_pool: str) -> Spec:
    return AdapterSimulation(FakeExternalEnvAdapter).spec


async def test_run_on_a_pool_is_left_to_the_trainer_without_simulators_or_with_options() -> None:
    wrong = [{"name": "only", "parameters": {"gravity": 3}}]
    assert await check_environment(run_on(ARENA, wrong)) is None
    options = {"pool": {"name": "arena", "options": {"world": "moon"}}}
    assert await check_environment(run_on(options, wrong), arena) is None
    right = [{"name": "only", "parameters": {"start": 0.5}}]
    declared = await check_environment(run_on(ARENA, right), arena)
    assert declared is not None
    assert declared.parameters == FakeExternalEnvAdapter.parameters

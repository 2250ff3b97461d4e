"""The compliance suite passes what keeps to the contract, and names each defect of what does not."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import grpc
import numpy as np
import pytest
from aisandbox.v1 import environment_pb2 as pb
from aisandbox.v1 import tensor_pb2
from aisandbox_environment import server as server_module
from aisandbox_environment.adapter_host import AdapterBatch, AdapterSimulation
from aisandbox_environment.adapters import FakeExternalEnvAdapter
from aisandbox_environment.compliance import CheckFailed, CheckResult, check_simulator
from aisandbox_environment.errors import InvalidRequest
from aisandbox_environment.gymnasium_host import GymnasiumSimulation
from aisandbox_environment.server import EnvironmentServer, create_environment_server
from aisandbox_environment.session_handler import Capacity, SessionHandler
from aisandbox_environment.simulation import ResetResult, Simulation, StepResult
from aisandbox_process.grpc_direct import StreamAborted
from aisandbox_process.grpc_direct.stream_server import PublicStreamServer
from aisandbox_wire.tensors import encode_tensor

CAPACITY = 12
EPISODE_STEPS = 7
# How long a server waits for a request that overtakes a reset.
_OVERTAKEN_SECONDS = 0.3


@pytest.fixture(autouse=True)
def _short_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aisandbox_environment.compliance.session._SHORT_IDLE_SECONDS", 0.3)


def failures(results: list[CheckResult]) -> dict[str, str]:
    return {result.name: result.message for result in results if not result.ok}


@pytest.mark.parametrize(
    ("id_", "capacity"), [("CartPole-v1", 0), ("CartPole-v1", 1), ("Pendulum-v1", 5), ("MountainCarContinuous-v0", 0)]
)
def test_gymnasium_environments_pass(id_: str, capacity: int) -> None:
    seen: list[CheckResult] = []
    with create_environment_server(GymnasiumSimulation(id_), capacity=capacity) as server:
        results = check_simulator(server.address, on_result=seen.append)
    assert failures(results) == {}
    assert len(results) > 25
    assert any(result.skipped for result in results) == (capacity < 2)
    assert seen == results


def test_options_are_passed_on() -> None:
    with create_environment_server(GymnasiumSimulation("CartPole-v1")) as server:
        assert failures(check_simulator(server.address, {"sutton_barto_reward": True})) == {}
        broken = check_simulator(server.address, {"moon": 1})
    assert list(failures(broken)) == ["a session opens with the spec of Describe"]
    assert "moon" in broken[-1].message


@pytest.mark.parametrize(("version", "who"), [("", "lander, "), ("2.1", "lander 2.1, ")])
def test_describe_returns_name_and_version(version: str, who: str) -> None:
    simulation = Masked()
    simulation.name, simulation.version = "lander", version
    with create_environment_server(simulation) as server:
        assert check_simulator(server.address)[0].message.startswith(who)


def test_unreachable_address_is_one_failure() -> None:
    (result,) = check_simulator("127.0.0.1:1", timeout=1)
    assert (result.name, result.ok) == ("Describe answers", False)
    assert "is it running" in result.message


FORBIDDEN = "forbidden actions do not end the session"


class Masked(AdapterSimulation):
    """Forbids what leads away from the middle; ``batch`` says what it does with it."""

    def __init__(self, batch: type[AdapterBatch] | None = None) -> None:
        super().__init__(lambda: FakeExternalEnvAdapter(EPISODE_STEPS))
        self.spec = replace(self.spec, mask_width=2)
        self._batch = batch or Refuses

    def make(self, environments: int, options: Mapping[str, Any]) -> AdapterBatch:
        batch = super().make(environments, options)
        return self._batch(batch.spec, batch._adapters)


class Accepts(AdapterBatch):
    def reset(self, seeds: Sequence[int] | None) -> ResetResult:
        result = super().reset(seeds)
        return replace(result, action_masks=self._masks(result.observations))

    def step(self, actions: np.ndarray) -> StepResult:
        result = super().step(actions)
        return result._replace(action_masks=self._masks(result.observations))

    def _masks(self, observations: Sequence[np.ndarray]) -> np.ndarray:
        position = observations[0][:, 0]
        self._now = np.stack([position >= 0, position < 0], axis=1)
        return self._now

    def forbids(self, actions: np.ndarray) -> bool:
        return not self._now[np.arange(len(actions)), actions].all()


class Refuses(Accepts):
    def step(self, actions: np.ndarray) -> StepResult:
        if self.forbids(actions):
            raise InvalidRequest("step.actions: an action is forbidden")
        return super().step(actions)


class RefusesTooLate(Accepts):
    def step(self, actions: np.ndarray) -> StepResult:
        forbidden = self.forbids(actions)
        result = super().step(actions)
        if forbidden:
            raise InvalidRequest("step.actions: an action is forbidden")
        return result


class EndsSessions(Accepts):
    def step(self, actions: np.ndarray) -> StepResult:
        assert not self.forbids(actions)
        return super().step(actions)


class AllowsNothing(Accepts):
    def _masks(self, observations: Sequence[np.ndarray]) -> np.ndarray:
        return np.zeros((len(observations[0]), 2), np.bool_)


@pytest.mark.parametrize("batch", [Refuses, Accepts])
def test_forbidden_action_may_be_refused_or_taken(batch: type[AdapterBatch]) -> None:
    with create_environment_server(Masked(batch), capacity=CAPACITY) as server:
        results = check_simulator(server.address)
    assert failures(results) == {}
    (forbidden,) = (result for result in results if result.name == FORBIDDEN)
    assert forbidden.message.startswith("refused: " if batch is Refuses else "taken, "), forbidden


class WithoutMasks(Masked):
    """Declares masks and sends none."""

    def make(self, environments: int, options: Mapping[str, Any]) -> AdapterBatch:
        return AdapterSimulation.make(self, environments, options)


# -- Simulations that do wrong ----------------------------------------------------------------------------------------


class Terminates(FakeExternalEnvAdapter):
    def step(self, action: Any) -> Any:
        observation, reward, _, truncated, info = super().step(action)
        return observation, reward, truncated, False, info


class Unlimited(FakeExternalEnvAdapter):
    max_episode_steps = 3


class Unseeded(FakeExternalEnvAdapter):
    randomness = np.random.default_rng(0)

    def reset(self, seed: int | None = None, parameters: Mapping[str, Any] | None = None) -> np.ndarray:
        return super().reset(int(self.randomness.integers(10**6)))


class OtherDefaults(FakeExternalEnvAdapter):
    """Starts nearer where the default of its parameter is given."""

    def reset(self, seed: int | None = None, parameters: Mapping[str, Any] | None = None) -> np.ndarray:
        return super().reset(seed, {"start": 0.5} if parameters else None)


class TakesAnyOption(AdapterSimulation):
    def make(self, environments: int, options: Mapping[str, Any]) -> AdapterBatch:
        return super().make(environments, {})


class Shared(AdapterSimulation):
    """All sessions of a size have the same environments."""

    def __init__(self, factory: Callable[[], Any]) -> None:
        super().__init__(factory)
        self.made: dict[int, AdapterBatch] = {}

    def make(self, environments: int, options: Mapping[str, Any]) -> AdapterBatch:
        return self.made.setdefault(environments, super().make(environments, options))


class ReversedSeeds(AdapterSimulation):
    def make(self, environments: int, options: Mapping[str, Any]) -> AdapterBatch:
        batch = super().make(environments, options)
        reset = batch.reset
        batch.reset = lambda seeds: reset(seeds[::-1] if seeds else None)  # type: ignore[method-assign]
        return batch


class FailsWhenLarge(AdapterSimulation):
    def make(self, environments: int, options: Mapping[str, Any]) -> AdapterBatch:
        if environments == CAPACITY:
            raise MemoryError("too many")
        return super().make(environments, options)


class Nameless(AdapterSimulation):
    def __init__(self, factory: Callable[[], Any]) -> None:
        super().__init__(factory)
        self.name = ""


def short() -> FakeExternalEnvAdapter:
    return FakeExternalEnvAdapter(EPISODE_STEPS)


# -- Sessions that do wrong -------------------------------------------------------------------------------------------


class AnyVersion(SessionHandler):
    def handle(self, request: bytes) -> bytes:
        message = pb.SimulatorRequest.FromString(request)
        if message.HasField("open"):
            message.open.protocol_version = 1
        return super().handle(message.SerializeToString())


class AtLeastOne(SessionHandler):
    """Takes no environments for one."""

    def handle(self, request: bytes) -> bytes:
        message = pb.SimulatorRequest.FromString(request)
        if message.HasField("open"):
            message.open.environments = max(1, message.open.environments)
        return super().handle(message.SerializeToString())


class VagueVersion(SessionHandler):
    def handle(self, request: bytes) -> bytes:
        try:
            return super().handle(request)
        except StreamAborted as end:
            raise StreamAborted(end.code, "no") from None


class AsksForPatience(SessionHandler):
    """Asks to be waited for for less than no time."""

    def __init__(self, simulation: Simulation, capacity: Capacity, _: float) -> None:
        super().__init__(simulation, capacity, -3600.0)


class Patient(SessionHandler):
    """Answers in band what has to end the stream."""

    def handle(self, request: bytes) -> bytes:
        try:
            return super().handle(request)
        except StreamAborted as end:
            if end.code is not grpc.StatusCode.INVALID_ARGUMENT:
                raise
            return pb.SimulatorReply(error=pb.SimulatorError(code=2, message=end.details)).SerializeToString()  # type: ignore[arg-type]


class Strict(SessionHandler):
    """Ends the stream where an answer in band is due."""

    def handle(self, request: bytes) -> bytes:
        reply = super().handle(request)
        error = pb.SimulatorReply.FromString(reply).error
        if error.code:
            raise StreamAborted(grpc.StatusCode.INVALID_ARGUMENT, error.message)
        return reply


class Impatient(SessionHandler):
    """Has an idle timeout."""

    last: float | None = None

    def handle(self, request: bytes) -> bytes:
        now = time.monotonic()
        if self.last is not None and now - self.last > 0.25:
            raise StreamAborted(grpc.StatusCode.DEADLINE_EXCEEDED, "idle for too long")
        try:
            return super().handle(request)
        finally:
            self.last = time.monotonic()


class Careless(SessionHandler):
    """Takes a wrong action for zero."""

    def handle(self, request: bytes) -> bytes:
        reply = super().handle(request)
        if pb.SimulatorReply.FromString(reply).error.code == pb.SIMULATOR_ERROR_CODE_INVALID_ARGUMENT:
            message = pb.SimulatorRequest.FromString(request)
            if message.HasField("step"):
                message.step.actions.CopyFrom(encode_tensor(np.zeros(self._n, np.int64)))
                return super().handle(message.SerializeToString())
        return reply


class Hasty(Careless):
    """Refuses a wrong action, but has moved."""

    def handle(self, request: bytes) -> bytes:
        right = SessionHandler.handle(self, request)
        if pb.SimulatorReply.FromString(right).HasField("error"):
            Careless.handle(self, request)
        return right


class NeedsNoReset(SessionHandler):
    def handle(self, request: bytes) -> bytes:
        if self._batch is not None and not self._was_reset:
            self._batch.reset(None)
            self._was_reset = True
        return super().handle(request)


class OpensAgain(SessionHandler):
    def handle(self, request: bytes) -> bytes:
        message = pb.SimulatorRequest.FromString(request)
        if self._batch is not None and message.HasField("open"):
            return pb.SimulatorReply(open=pb.OpenReply(spec=self._batch.spec.to_proto())).SerializeToString()
        return super().handle(request)


class AnySeeds(SessionHandler):
    def handle(self, request: bytes) -> bytes:
        message = pb.SimulatorRequest.FromString(request)
        if message.HasField("reset"):
            del message.reset.seeds[self._n :]
        return super().handle(message.SerializeToString())


class AnyParameters(SessionHandler):
    """Ignores parameters, wrong ones too."""

    def handle(self, request: bytes) -> bytes:
        message = pb.SimulatorRequest.FromString(request)
        if message.HasField("reset"):
            message.reset.ClearField("parameters")
        return super().handle(message.SerializeToString())


def tampering(change: Callable[[pb.StepReply], object]) -> type[SessionHandler]:
    """A session that changes each reply to a step."""

    class Tampering(SessionHandler):
        def handle(self, request: bytes) -> bytes:
            reply = pb.SimulatorReply.FromString(super().handle(request))
            if reply.HasField("step"):
                change(reply.step)
            return reply.SerializeToString()

    return Tampering


def observations(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[pb.StepReply], object]:
    def apply(reply: pb.StepReply) -> None:
        for tensor in reply.observations:
            array = np.frombuffer(tensor.data, np.float32).reshape(tuple(tensor.shape)).copy()
            tensor.CopyFrom(encode_tensor(change(array)))

    return apply


def stays(reply: pb.StepReply) -> None:
    """The final observation instead of the next first one."""
    ended = [i for i, (a, b) in enumerate(zip(reply.terminated, reply.truncated, strict=True)) if a or b]
    array = np.frombuffer(reply.observations[0].data, np.float32).reshape(-1, 1).copy()
    for k, i in enumerate(ended):
        array[i] = np.frombuffer(reply.final_observations[0].data, np.float32)[k]
    reply.observations[0].CopyFrom(encode_tensor(array))


def finals_of_all(reply: pb.StepReply) -> None:
    reply.ClearField("final_observations")
    reply.final_observations.extend(reply.observations)


# -- Servers that do wrong --------------------------------------------------------------------------------------------


class NeverRefuses(Capacity):
    def reserve(self, environments: int) -> None:
        self.in_use += environments


class NeverFrees(Capacity):
    def __init__(self, _limit: int) -> None:
        super().__init__(0)

    def release(self, environments: int) -> None:
        pass

    def wait_until_free(self, _timeout: float) -> bool:
        return True


class OtherDescription(EnvironmentServer):
    def _describe(self, request: pb.DescribeRequest, context: grpc.ServicerContext) -> pb.DescribeResponse:
        response = super()._describe(request, context)
        response.spec.max_episode_steps += 1
        return response


class InvalidDescription(EnvironmentServer):
    def _describe(self, request: pb.DescribeRequest, context: grpc.ServicerContext) -> pb.DescribeResponse:
        response = super()._describe(request, context)
        response.spec.observation_space.box.low[:] = [5]
        return response


class DropsOvertakenResets(PublicStreamServer):
    """Drops a reset that another request has overtaken."""

    def _serve(self, requests: Iterable[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        waiting: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

        def read() -> None:
            try:
                for request in requests:
                    waiting.put(request)
            except grpc.RpcError:
                pass
            waiting.put(None)

        threading.Thread(target=read, daemon=True).start()

        def not_overtaken() -> Iterator[bytes]:
            while (request := waiting.get()) is not None:
                if pb.SimulatorRequest.FromString(request).HasField("reset"):
                    try:
                        newer = waiting.get(timeout=_OVERTAKEN_SECONDS)
                    except queue.Empty:
                        pass
                    else:
                        if newer is None:
                            return
                        request = newer
                yield request

        return super()._serve(not_overtaken(), context)


class NeverEnds(PublicStreamServer):
    """Ignores the client's half-close."""

    def _serve(self, requests: Iterable[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        ended = threading.Event()
        context.add_callback(ended.set)

        def forever() -> Iterator[bytes]:
            yield from requests
            ended.wait(30)

        return super()._serve(forever(), context)


@dataclass(frozen=True)
class Defect:
    """What is wrong, and the check that must say so."""

    caught_by: str
    says: str
    simulation: Callable[[], Simulation] = lambda: AdapterSimulation(short)
    session: type[SessionHandler] = SessionHandler
    capacity: type[Capacity] = Capacity
    server: type[EnvironmentServer] = EnvironmentServer
    streams: type[PublicStreamServer] | None = None
    also: tuple[str, ...] = ()
    # Seconds for each reply. Only what never answers needs little: everything else has time on a busy machine.
    timeout: float = 30


FINALS = "final observations are those of the environments that ended"
SHAPES = "observations have their shape and dtype, and are finite"
WRONG_ACTIONS = "wrong actions are refused in band and change nothing"
SEEDS = "seeds reproduce episodes"
INDEPENDENT = "environments are independent of each other"
MASKS = "action masks are N rows that each allow an action, if declared"
EARLY, AGAIN = "a step before the first reset is refused in band", "a second open is refused in band"
FIRST, NONE = "the first request must be open", "a session without environments is refused"
UNKNOWN, VERSION = "unknown options are refused by name", "another protocol version is refused"
WRONG_SEEDS, AHEAD = "the wrong number of seeds is refused in band", "requests sent ahead are answered in order"
LIMITS, APART = "time limits truncate and do not terminate", "sessions do not influence each other"
RESTART = "episodes restart in the step that ends them"
LARGE = "a large batch works"
PARAMETERS, WRONG_PARAMETERS = "declared parameters are taken", "wrong parameters are refused in band"

DEFECTS: dict[str, Defect] = {
    "no name": Defect("Describe answers", "a name", simulation=lambda: Nameless(short)),
    "an invalid description": Defect("Describe answers", "lower bound is greater", server=InvalidDescription),
    "another description": Defect(
        "a session opens with the spec of Describe", "Declare the spaces in one place", server=OtherDescription
    ),
    "an hour or so": Defect(
        "a session opens with the spec of Describe", "must be from 0 to 86400, got -3600", session=AsksForPatience
    ),
    "any version": Defect(VERSION, "FAILED_PRECONDITION", session=AnyVersion),
    "a vague refusal": Defect(VERSION, "names version 999999999", session=VagueVersion, also=(UNKNOWN,)),
    "endless patience": Defect(FIRST, "INVALID_ARGUMENT", session=Patient, also=(NONE, UNKNOWN)),
    "one environment at least": Defect(NONE, "at least 1", session=AtLeastOne),
    "any option": Defect(UNKNOWN, "misspelt", simulation=lambda: TakesAnyOption(short)),
    "no patience": Defect(
        EARLY, "keep the stream", session=Strict, also=(AGAIN, WRONG_SEEDS, WRONG_ACTIONS, WRONG_PARAMETERS),
    ),
    "no reset needed": Defect(EARLY, "no episode yet", session=NeedsNoReset),
    "opens again": Defect(AGAIN, "opens once", session=OpensAgain),
    "any seeds": Defect(WRONG_SEEDS, "one for each environment", session=AnySeeds),
    "any action": Defect(WRONG_ACTIONS, "one action too many", session=Careless),
    "moves, then refuses": Defect(WRONG_ACTIONS, "change nothing", session=Hasty),
    "unseeded": Defect(
        SEEDS, "same seeds", simulation=lambda: AdapterSimulation(lambda: Unseeded(EPISODE_STEPS)),
        also=(WRONG_ACTIONS, INDEPENDENT, AHEAD, APART, PARAMETERS),
    ),
    "seeds in another order": Defect(INDEPENDENT, "alone", simulation=lambda: ReversedSeeds(short)),
    "only the latest request": Defect(AHEAD, "one reply each", streams=DropsOvertakenResets),
    "another dtype": Defect(
        SHAPES, "has dtype float64", session=tampering(observations(lambda a: a.astype(np.float64))),
        also=(INDEPENDENT, LARGE),
    ),
    "another shape": Defect(
        SHAPES, "expected [4, 1]", session=tampering(observations(lambda a: a[:, 0])), also=(INDEPENDENT, LARGE)
    ),
    "NaN observed": Defect(
        SHAPES, "not finite", session=tampering(observations(lambda a: a * np.nan)), also=(INDEPENDENT, LARGE)
    ),
    "outside the bounds": Defect(
        "observations are within their bounds", "Widen the bounds", session=tampering(observations(lambda a: a + 5))
    ),
    "rewards of float64": Defect(
        "rewards are N finite numbers", "need 16",
        session=tampering(lambda r: setattr(r, "rewards", r.rewards * 2)), also=(INDEPENDENT, LARGE),
    ),
    "infinite rewards": Defect(
        "rewards are N finite numbers", "inf",
        session=tampering(lambda r: setattr(r, "rewards", np.full(len(r.terminated), np.inf, "<f4").tobytes())),
        also=(INDEPENDENT, LARGE),
    ),
    "an end of two": Defect(
        "terminated and truncated have N bytes, 0 or 1", "neither 0 nor 1",
        session=tampering(lambda r: setattr(r, "truncated", b"\2" * len(r.truncated))),
        also=(INDEPENDENT, LARGE),
    ),
    "no final observations": Defect(
        FINALS, "has 0 tensors", session=tampering(lambda r: r.ClearField("final_observations")), also=(INDEPENDENT,)
    ),
    "final observations of all": Defect(
        FINALS, "though no episode ended", session=tampering(finals_of_all), also=(INDEPENDENT, LARGE)
    ),
    "no restart": Defect(RESTART, "keep its last observation", session=tampering(stays)),
    "a limit that terminates": Defect(
        LIMITS, "has not reached a terminal state",
        simulation=lambda: AdapterSimulation(lambda: Terminates(EPISODE_STEPS)),
    ),
    "a limit that is none": Defect(
        LIMITS, "at most max_episode_steps = 3", simulation=lambda: AdapterSimulation(lambda: Unlimited(EPISODE_STEPS))
    ),
    "masks that are missing": Defect(
        MASKS, "need 8", simulation=WithoutMasks, also=(EARLY, AGAIN, INDEPENDENT, LARGE),
    ),
    "masks that allow nothing": Defect(
        MASKS, "the mask of environment 0 allows no action", simulation=lambda: Masked(AllowsNothing),
        also=(EARLY, AGAIN, INDEPENDENT, LARGE, FORBIDDEN),
    ),
    "an end by a forbidden action": Defect(FORBIDDEN, "Refuse it with", simulation=lambda: Masked(EndsSessions)),
    "a refusal that takes the step": Defect(FORBIDDEN, "change nothing", simulation=lambda: Masked(RefusesTooLate)),
    "metrics without an end": Defect(
        "episode metrics are of episodes that ended", "though no episode ended",
        session=tampering(lambda r: r.episode_metrics.add(environment=0)), also=(INDEPENDENT, LARGE),
    ),
    "other defaults": Defect(
        PARAMETERS, "the defaults to give the episodes",
        simulation=lambda: AdapterSimulation(lambda: OtherDefaults(EPISODE_STEPS)),
    ),
    "any parameters": Defect(WRONG_PARAMETERS, "an unknown parameter", session=AnyParameters),
    "shared environments": Defect(APART, "must not share", simulation=lambda: Shared(short)),
    "no capacity": Defect("the capacity is kept", "RESOURCE_EXHAUSTED", capacity=NeverRefuses),
    "an endless stream": Defect("a half-close ends the session with OK", "half-close", streams=NeverEnds, timeout=20),
    "nothing freed": Defect("a cut stream frees its environments", "watch the call's", capacity=NeverFrees, timeout=20),
    "an idle timeout": Defect("a session stays open without requests", "idle for too long", session=Impatient),
    "small batches only": Defect(LARGE, "too many", simulation=lambda: FailsWhenLarge(short)),
}  # fmt: skip


@pytest.mark.parametrize("name", DEFECTS)
def test_defect_is_found_by_its_check(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    defect = DEFECTS[name]
    monkeypatch.setattr(server_module, "SessionHandler", defect.session)
    monkeypatch.setattr(server_module, "Capacity", defect.capacity)
    if defect.streams is not None:
        streams = defect.streams
        monkeypatch.setattr(server_module, "serve_streams", lambda *arguments, direct: streams(*arguments))
    direct = defect.streams is None
    with defect.server(defect.simulation(), "127.0.0.1", 0, CAPACITY, direct=direct) as server:
        failed = failures(check_simulator(server.address, timeout=defect.timeout))
    assert defect.caught_by in failed, failed
    assert defect.says in failed[defect.caught_by]
    # A defect is not blamed on what is right.
    assert set(failed) <= {defect.caught_by, *defect.also}, failed


def test_every_check_finds_a_defect() -> None:
    with create_environment_server(AdapterSimulation(short), capacity=CAPACITY) as server:
        results = check_simulator(server.address)
    assert failures(results) == {}
    caught = {defect.caught_by for defect in DEFECTS.values()} | {"episodes can be played"}
    assert {result.name for result in results} == caught


def test_checks_of_spaces_get_what_the_session_has_declared() -> None:
    seen: list[pb.EnvironmentSpec] = []

    def look(spec: pb.EnvironmentSpec) -> str:
        seen.append(spec)
        return "trains"

    def refuse(_: pb.EnvironmentSpec) -> str:
        raise CheckFailed("other spaces", "these", "Change them.")

    simulation = AdapterSimulation(short)
    with create_environment_server(simulation, capacity=CAPACITY) as server:
        results = check_simulator(server.address, space_checks={"it trains": look, "it fails": refuse})
    assert seen == [simulation.spec.to_proto()]
    assert [(result.name, result.ok) for result in results[-2:]] == [("it trains", True), ("it fails", False)]
    assert failures(results) == {"it fails": "expected other spaces; got these. Change them."}


def test_exception_in_an_episode_is_in_the_result() -> None:
    class Dies(FakeExternalEnvAdapter):
        def step(self, action: Any) -> Any:
            if self._steps == 25:
                raise ZeroDivisionError("in the engine")
            return super().step(action)

    with create_environment_server(AdapterSimulation(lambda: Dies(50)), capacity=CAPACITY) as server:
        failed = failures(check_simulator(server.address))
    assert list(failed) == ["episodes can be played"]
    assert "in the engine" in failed["episodes can be played"]


def test_space_of_every_kind_can_be_acted_in() -> None:
    kinds = [
        tensor_pb2.Space(box=tensor_pb2.Box(dtype=tensor_pb2.DATA_TYPE_FLOAT64, shape=[2], low=[-1, 0], high=[1])),
        tensor_pb2.Space(box=tensor_pb2.Box(dtype=tensor_pb2.DATA_TYPE_UINT8, low=[0], high=[9])),
        tensor_pb2.Space(discrete=tensor_pb2.Discrete(n=3, start=-1)),
        tensor_pb2.Space(multi_discrete=tensor_pb2.MultiDiscrete(n=[2, 5])),
        tensor_pb2.Space(multi_binary=tensor_pb2.MultiBinary(n=3)),
    ]
    for kind in kinds:

        class Acts(FakeExternalEnvAdapter):
            action_space = kind

            def step(self, action: Any) -> Any:
                return super().step(np.array(int(np.asarray(action).sum()) % 2))

        with create_environment_server(AdapterSimulation(lambda: Acts(EPISODE_STEPS)), capacity=CAPACITY) as server:
            assert failures(check_simulator(server.address)) == {}, kind

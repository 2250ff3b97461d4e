"""Simulators that are unreachable, end, hang or reply something invalid: each has its own error, within seconds."""

from __future__ import annotations

import functools
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest
from aisandbox.v1 import environment_pb2 as pb
from aisandbox.v1 import tensor_pb2
from aisandbox_environment import errors
from aisandbox_environment.calls import describe, open_session_stream
from aisandbox_environment.channels import SESSION_METHOD
from aisandbox_environment.session import SimulatorSession, Timeouts
from aisandbox_environment.watchdog import WatchdogTimer
from aisandbox_wire.tensors import encode_tensor
from waiting import wait_until

SPEC = pb.EnvironmentSpec(
    observation_space=tensor_pb2.Space(box=tensor_pb2.Box(dtype=tensor_pb2.DATA_TYPE_FLOAT32, shape=[2])),
    action_space=tensor_pb2.Space(discrete=tensor_pb2.Discrete(n=2)),
)
OPEN = pb.SimulatorReply(open=pb.OpenReply(spec=SPEC))
PATIENT = pb.SimulatorReply(open=pb.OpenReply(spec=SPEC, reply_timeout_seconds=60))
OBSERVATIONS = encode_tensor(np.zeros((2, 2), np.float32))
RESET = pb.SimulatorReply(reset=pb.ResetReply(observations=[OBSERVATIONS]))
STEP = pb.StepReply(observations=[OBSERVATIONS], rewards=b"\0" * 8, terminated=b"\0\0", truncated=b"\0\0")
QUICK = Timeouts(connect=0.5, open=0.5, reset=0.5, step=0.5, close=0.5)
Behaviour = Callable[[Iterable[bytes], grpc.ServicerContext], Iterator[bytes]]


@pytest.fixture(params=[True, False], ids=["direct", "public"])
def connect(request: pytest.FixtureRequest) -> Callable[..., SimulatorSession]:
    stream = functools.partial(open_session_stream, direct=request.param)

    def connect(address: str, environments: int = 2) -> SimulatorSession:
        return SimulatorSession.connect(address, environments, timeouts=QUICK, stream=stream)

    return connect


@pytest.fixture
def serve() -> Iterator[Callable[[Behaviour], str]]:
    """Serves Session with a function over raw bytes; returns its address."""
    servers = []
    release = threading.Event()

    def serve(behaviour: Behaviour) -> str:
        def session(requests: Iterable[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            context.release = release  # type: ignore[attr-defined]
            return behaviour(requests, context)

        service, method = SESSION_METHOD[1:].split("/")
        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(session)
        server = grpc.server(ThreadPoolExecutor(4))
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        servers.append(server)
        return f"127.0.0.1:{port}"

    yield serve
    release.set()
    for server in servers:
        server.stop(0).wait()


def replies(*messages: pb.SimulatorReply | bytes) -> Behaviour:
    """Answers with these, then reads on in silence until the client leaves."""

    def behaviour(requests: Iterable[bytes], context: Any) -> Iterator[bytes]:
        for _, message in zip(requests, messages, strict=False):
            yield message if isinstance(message, bytes) else message.SerializeToString()
        context.release.wait(30)

    return behaviour


def aborts(code: grpc.StatusCode, details: str, *first: pb.SimulatorReply) -> Behaviour:
    def behaviour(requests: Iterable[bytes], context: Any) -> Iterator[bytes]:
        waiting = iter(requests)
        for message in first:
            next(waiting)
            yield message.SerializeToString()
        next(waiting)
        context.abort(code, details)

    return behaviour


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


Connect = Callable[..., SimulatorSession]
Serve = Callable[[Behaviour], str]


def test_unreachable_address_is_found_at_once(connect: Connect) -> None:
    with pytest.raises(errors.SimulatorUnreachable, match=r"simulator 127.0.0.1:\d+: cannot be reached, is it running"):
        connect(f"127.0.0.1:{free_port()}")
    with pytest.raises(errors.SimulatorUnreachable, match="is it running"):
        describe(f"127.0.0.1:{free_port()}", 2)


def test_port_that_accepts_connections_and_never_answers_times_out(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(
            errors.SimulatorUnreachable, match=r"no connection within 0.5 s; .*sends nothing within 1 s"
        ):
            connect(address)
        with pytest.raises(errors.SimulatorUnreachable, match=r"did not answer within 0.3 s"):
            describe(address, 0.3)


def test_port_of_another_protocol_is_not_a_simulator(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            try:
                while True:
                    peer, _ = listener.accept()
                    peer.recv(100)
                    peer.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
                    peer.close()
            except OSError:
                return

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(errors.SimulatorUnreachable, match=r"an HTTP/1.1 server answers there.*HttpProtocols.Http2"):
            connect(f"127.0.0.1:{listener.getsockname()[1]}")


def test_grpc_server_that_is_no_simulator_is_a_protocol_mismatch(connect: Connect) -> None:
    server = grpc.server(ThreadPoolExecutor(1))
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    with pytest.raises(errors.ProtocolMismatch, match=r"does not serve aisandbox.v1.EnvironmentService"):
        connect(address)
    with pytest.raises(errors.ProtocolMismatch, match="does not serve"):
        describe(address)
    server.stop(0).wait()


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (grpc.StatusCode.RESOURCE_EXHAUSTED, errors.AtCapacity),
        (grpc.StatusCode.FAILED_PRECONDITION, errors.ProtocolMismatch),
        (grpc.StatusCode.INVALID_ARGUMENT, errors.RefusedRequest),
        (grpc.StatusCode.INTERNAL, errors.SimulationFailed),
        (grpc.StatusCode.UNKNOWN, errors.SimulationFailed),
        (grpc.StatusCode.UNAVAILABLE, errors.SimulatorUnreachable),
    ],
)
def test_status_that_ends_an_open_has_its_error(
    connect: Connect, serve: Serve, code: grpc.StatusCode, expected: type[errors.SimulatorError]
) -> None:
    with pytest.raises(expected, match="because of this"):
        connect(serve(aborts(code, "because of this")))


def test_simulator_that_loads_for_longer_than_a_connection_may_take_is_waited_for(
    connect: Connect, serve: Serve
) -> None:
    asked, load = threading.Event(), threading.Event()

    def behaviour(requests: Iterable[bytes], _context: Any) -> Iterator[bytes]:
        for _ in requests:
            asked.set()
            load.wait(30)
            yield OPEN.SerializeToString()

    timeouts = Timeouts(connect=0.2, open=30, close=0.5)
    loaded = WatchdogTimer(load.set)
    loaded.start(1.0)  # longer than `connect`
    with SimulatorSession.connect(serve(behaviour), 2, timeouts=timeouts) as session:
        assert asked.is_set()
        assert session.spec.action_leaf.n == 2


@pytest.mark.parametrize(
    "raises", [ValueError("no level of this name"), RuntimeError(""), KeyError("lidar.front")], ids=repr
)
def test_exception_of_a_handler_points_to_the_simulators_log(connect: Connect, serve: Serve, raises: Exception) -> None:
    def behaviour(requests: Iterable[bytes], _context: Any) -> Iterator[bytes]:
        for _ in requests:
            yield refuse()

    def refuse() -> bytes:
        raise raises

    with pytest.raises(errors.SimulationFailed, match=r"its own code raised an exception; its log|own code.*its log"):
        connect(serve(behaviour))


def test_refused_step_says_what_was_sent(connect: Connect, serve: Serve) -> None:
    error = pb.SimulatorError(code=pb.SIMULATOR_ERROR_CODE_INVALID_ARGUMENT, message="the door is locked")
    session = connect(serve(replies(OPEN, RESET, pb.SimulatorReply(error=error))))
    session.reset()
    with pytest.raises(
        errors.RefusedRequest, match=r"the door is locked; sent was `step` with actions int64 \[2\]: 1, 0"
    ):
        session.step(np.array([1, 0]))
    session.close()


def test_transient_and_permanent_errors_are_types() -> None:
    transient = {
        errors.SimulatorUnreachable, errors.SimulatorLost, errors.SimulatorHung, errors.AtCapacity,
        errors.SimulatorBusy, errors.SimulationFailed,
    }  # fmt: skip
    permanent = {errors.InvalidAddress, errors.ProtocolMismatch, errors.InvalidReply, errors.RefusedRequest}
    own = {each for each in vars(errors).values() if isinstance(each, type)}  # a trainer has more of them
    assert own.intersection(errors.TransientSimulatorError.__subclasses__()) == transient
    assert own.intersection(errors.PermanentSimulatorError.__subclasses__()) == permanent


def test_exception_of_a_simulation_is_in_the_error(connect: Connect, serve: Serve) -> None:
    session = connect(serve(aborts(grpc.StatusCode.INTERNAL, "engine exploded", OPEN, RESET)))
    session.reset()
    with pytest.raises(errors.SimulationFailed, match="engine exploded"):
        session.step(np.array([0, 0]))
    session.close()


def test_stream_that_ends_with_ok_is_a_lost_simulator(connect: Connect, serve: Serve) -> None:
    def behaviour(requests: Iterable[bytes], _context: Any) -> Iterator[bytes]:
        waiting = iter(requests)
        for message in (OPEN, RESET):
            next(waiting)
            yield message.SerializeToString()
        next(waiting)

    session = connect(serve(behaviour))
    session.reset()
    with pytest.raises(errors.SimulatorLost, match="ended the session"):
        session.step(np.array([0, 0]))
    with pytest.raises(RuntimeError, match="the session has ended"):
        session.reset()
    session.close()


@pytest.mark.parametrize(("first", "request_", "seconds"), [((OPEN,), "reset", 0.5), ((OPEN, RESET), "step", 0.5)])
def test_hang_is_found_within_the_timeout(
    connect: Connect, serve: Serve, first: tuple[pb.SimulatorReply, ...], request_: str, seconds: float
) -> None:
    session = connect(serve(replies(*first)))
    if request_ == "step":
        session.reset()
    begun = time.monotonic()
    with pytest.raises(errors.SimulatorHung, match=f"no reply to '{request_}' within 0.5 s"):
        session.step(np.array([0, 0])) if request_ == "step" else session.reset()
    assert seconds * 0.9 < time.monotonic() - begun
    session.close()


@pytest.mark.parametrize("request_", ["reset", "step"])
def test_simulator_that_asks_for_it_is_waited_for_longer_than_the_timeout(
    connect: Connect, serve: Serve, request_: str
) -> None:
    later = threading.Event()

    def halted(requests: Iterable[bytes], _context: grpc.ServicerContext) -> Iterator[bytes]:
        for request, reply in zip(requests, (PATIENT, RESET, pb.SimulatorReply(step=STEP)), strict=False):
            if pb.SimulatorRequest.FromString(request).WhichOneof("request") == request_:
                timer = WatchdogTimer(later.set)
                timer.start(3 * QUICK.step)
                assert later.wait(30)
            yield reply.SerializeToString()

    with connect(serve(halted)) as session:
        assert session.reply_timeout == 60
        session.reset()
        assert session.step(np.array([0, 0])).rewards.tolist() == [0, 0]
    assert later.is_set()


@pytest.mark.parametrize("seconds", [-1.0, 86_401.0, float("nan"), float("inf")])
def test_reply_timeout_out_of_range_is_an_invalid_reply(connect: Connect, serve: Serve, seconds: float) -> None:
    reply = pb.SimulatorReply(open=pb.OpenReply(spec=SPEC, reply_timeout_seconds=seconds))
    with pytest.raises(errors.InvalidReply, match=r"open.reply_timeout_seconds: must be from 0 to 86400, got"):
        connect(serve(replies(reply)))


def test_simulator_that_does_not_open_in_time_is_unreachable(connect: Connect, serve: Serve) -> None:
    with pytest.raises(errors.SimulatorUnreachable, match=r"did not open the session within 0.5 s"):
        connect(serve(replies()))


def test_idle_session_is_not_reported_as_hung(connect: Connect, serve: Serve) -> None:
    session = connect(serve(replies(OPEN, RESET, pb.SimulatorReply(step=STEP))))
    session.reset()
    # The learner updates its policy for longer than a reply may take.
    updated = threading.Event()
    update = WatchdogTimer(updated.set)
    update.start(QUICK.step + 0.3)
    assert updated.wait(30)
    assert session.step(np.array([0, 0])).rewards.tolist() == [0, 0]
    session.close()


def changed(**fields: Any) -> pb.SimulatorReply:
    step = pb.StepReply()
    step.CopyFrom(STEP)
    for name, value in fields.items():
        step.ClearField(name)  # type: ignore[arg-type]
        step.MergeFrom(pb.StepReply(**{name: value}))
    return pb.SimulatorReply(step=step)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (b"\xff\xff\xff\xff", "cannot be parsed"),
        (b"", "reply to 'step' is empty"),
        (RESET, "the reply to 'step' is 'reset'"),
        (changed(rewards=b"\0" * 12), r"step.rewards: has 12 bytes; 2 float32 rewards need 8"),
        (changed(rewards=np.array([0, np.nan], "<f4").tobytes()), r"step.rewards: element \[1\] is nan"),
        (changed(observations=[encode_tensor(np.zeros((2, 3), np.float32))]), r"has shape \[2, 3\], expected \[2, 2\]"),
        (changed(observations=[encode_tensor(np.zeros((2, 2)))]), "has dtype float64, expected float32"),
        (changed(observations=[encode_tensor(np.full((2, 2), np.inf, np.float32))]), "inf, which is not finite"),
        (changed(terminated=b"\1\0"), "step.final_observations: has 0 tensors"),
    ],
)
def test_invalid_reply_names_field_and_rule(
    connect: Connect, serve: Serve, reply: pb.SimulatorReply | bytes, message: str
) -> None:
    session = connect(serve(replies(OPEN, RESET, reply)))
    session.reset()
    with pytest.raises(errors.InvalidReply, match=message):
        session.step(np.array([0, 0]))
    session.close()


def test_invalid_spec_names_field_and_rule(connect: Connect, serve: Serve) -> None:
    with pytest.raises(errors.InvalidReply, match=r"spec.action_space: no kind is set"):
        connect(serve(replies(pb.SimulatorReply(open=pb.OpenReply()))))


BUSY = pb.SimulatorReply(error=pb.SimulatorError(code=pb.SIMULATOR_ERROR_CODE_BUSY, message="loading"))


def test_request_to_a_busy_simulator_is_retried(connect: Connect, serve: Serve) -> None:
    session = connect(serve(replies(OPEN, BUSY, BUSY, RESET, BUSY, pb.SimulatorReply(step=STEP))))
    assert session.reset().observations[0].tolist() == [[0, 0], [0, 0]]
    assert session.step(np.array([0, 0])).rewards.tolist() == [0, 0]
    session.close()


def test_retries_of_a_busy_simulator_end_at_the_timeout(connect: Connect, serve: Serve) -> None:
    session = connect(serve(replies(OPEN, RESET, *[BUSY] * 100)))
    session.reset()
    with pytest.raises(errors.SimulatorBusy, match="is busy and refused 'step': loading"):
        session.step(np.array([0, 0]))
    session.close()


def test_text_of_a_simulator_is_cut_and_has_no_control_characters(connect: Connect, serve: Serve) -> None:
    text = "\x1b[2J\r\n" + "x" * 10_000
    loud = pb.SimulatorReply(error=pb.SimulatorError(code=pb.SIMULATOR_ERROR_CODE_INVALID_ARGUMENT, message=text))
    session = connect(serve(replies(OPEN, loud)))
    with pytest.raises(errors.RefusedRequest) as refused:
        session.reset()
    said = str(refused.value)
    assert (len(said) < 2200, r"\x1b[2J\r\nxxx" in said, said.isprintable()) == (True, True, True)
    session.close()


def test_reply_with_megabytes_of_text_ends_the_session(connect: Connect, serve: Serve) -> None:
    loud = pb.SimulatorReply(error=pb.SimulatorError(code=pb.SIMULATOR_ERROR_CODE_BUSY, message="x" * (5 << 20)))
    session = connect(serve(replies(OPEN, loud)))
    with pytest.raises(errors.InvalidReply, match=r"the reply to 'reset' has 5,242,\d+ bytes; at most"):
        session.reset()
    session.close()


def test_error_in_band_has_its_type_and_leaves_the_session_open(connect: Connect, serve: Serve) -> None:
    no = pb.SimulatorReply(error=pb.SimulatorError(code=pb.SIMULATOR_ERROR_CODE_INVALID_ARGUMENT, message="not so"))
    session = connect(serve(replies(OPEN, no, RESET)))
    with pytest.raises(errors.RefusedRequest, match="refused 'reset': not so"):
        session.reset()
    assert session.reset().observations[0].tolist() == [[0, 0], [0, 0]]
    session.close()


HOST = """
import sys, time
import structlog
from aisandbox_environment.adapter_host import AdapterSimulation
from aisandbox_environment.adapters import FakeExternalEnvAdapter
from aisandbox_environment.server import create_environment_server
class Slow(FakeExternalEnvAdapter):
    def step(self, action):
        print("stepping", flush=True)
        time.sleep(60)
structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
server = create_environment_server(AdapterSimulation(Slow if "slow" in sys.argv else FakeExternalEnvAdapter))
server.start()
print(server.address, flush=True)
server.wait()
"""


@pytest.fixture
def process() -> Iterator[Callable[..., tuple[subprocess.Popen[str], str]]]:
    """Starts a simulator as a process; returns it and its address."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> tuple[subprocess.Popen[str], str]:
        child = subprocess.Popen(
            [sys.executable, "-c", HOST, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        started.append(child)
        assert child.stdout is not None
        return child, child.stdout.readline().strip()

    yield start
    for child in started:
        child.kill()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()


Start = Callable[..., tuple[subprocess.Popen[str], str]]


def when_stepping(child: subprocess.Popen[str], act: Callable[[], object]) -> threading.Thread:
    """A thread that calls ``act`` once the slow simulator has begun a step."""

    def wait() -> None:
        assert child.stdout is not None
        if child.stdout.readline() == "stepping\n":
            act()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_simulator_that_is_killed_in_a_step_is_lost(connect: Connect, process: Start) -> None:
    child, address = process("slow")
    session = SimulatorSession.connect(address, 1, timeouts=Timeouts(step=60))
    session.reset()
    killer = when_stepping(child, child.kill)
    begun = time.monotonic()
    with pytest.raises(errors.SimulatorLost, match="the connection broke"):
        session.step(np.array([0]))
    assert time.monotonic() - begun < 30
    killer.join()
    session.close()
    with pytest.raises(errors.SimulatorUnreachable):
        connect(address)


def test_simulator_that_is_killed_between_steps_is_lost_at_the_next(connect: Connect, process: Start) -> None:
    child, address = process()
    session = connect(address, 1)
    session.reset()
    session.step(np.array([0]))
    child.kill()
    child.wait()
    with pytest.raises(errors.SimulatorLost):
        session.step(np.array([0]))
    session.close()


def test_simulator_that_is_stopped_hangs(connect: Connect, process: Start) -> None:
    child, address = process()
    session = connect(address, 1)
    session.reset()
    child.send_signal(signal.SIGSTOP)
    # The signal is on its way when send_signal returns: a thread that still runs could answer.
    assert os.WIFSTOPPED(os.waitpid(child.pid, os.WUNTRACED)[1])
    with pytest.raises(errors.SimulatorHung):
        session.step(np.array([0]))
    session.close()  # which waits no longer than it may
    child.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("raises", [True, False])
def test_signal_handler_runs_while_a_reply_is_awaited(connect: Connect, process: Start, raises: bool) -> None:
    class Terminated(Exception):
        pass

    child, address = process("slow")
    session = SimulatorSession.connect(address, 1, timeouts=Timeouts(step=60))
    session.reset()

    def handler(_signal: int, _frame: object) -> None:
        if raises:
            raise Terminated
        session.cancel()

    previous = signal.signal(signal.SIGUSR1, handler)
    sender = when_stepping(child, lambda: os.kill(os.getpid(), signal.SIGUSR1))
    begun = time.monotonic()
    try:
        with pytest.raises(Terminated if raises else errors.SessionCancelled):
            session.step(np.array([0]))
        assert time.monotonic() - begun < 30  # a step takes 60 s
    finally:
        sender.join()
        signal.signal(signal.SIGUSR1, previous)
        session.close()


def test_client_that_is_killed_frees_its_environments(process: Start) -> None:
    _, address = process()
    client = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"from aisandbox_environment.session import SimulatorSession as S; s = S.connect({address!r}, 7);"
            "print('open', flush=True); input()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert client.stdout is not None
    assert select.select([client.stdout], [], [], 30)[0]
    assert client.stdout.readline() == "open\n"
    assert describe(address).in_use == 7
    client.kill()
    client.communicate()
    wait_until(lambda: describe(address).in_use == 0, seconds=10, every=0.02)

"""Which free simulators of a pool are taken, and what is said where there are too few."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aisandbox.v1 import simulator_pool_pb2 as pb
from aisandbox_crds import Activity, PoolEnvironment
from aisandbox_environment import AtCapacity, RefusedRequest, SimulatorUnreachable, Timeouts
from aisandbox_trainer.environments import pool_sessions
from aisandbox_trainer.environments.pool_sessions import (
    PoolSessions,
    PoolTarget,
    TooFewEnvironments,
    evaluation_session,
)
from aisandbox_trainer.environments.retry import SimulatorRetry
from aisandbox_trainer.errors import StopRequested
from aisandbox_trainer.runtime.progress import ProgressTracker
from aisandbox_trainer.runtime.service import Service
from aisandbox_trainer.runtime.stop import Stop
from waiting import wait_until

SERVICE = Service("a:1", "run-1")


@dataclass
class Session:
    environments: int
    closed: bool = False

    def close(self) -> None:
        self.closed = True


@dataclass(frozen=True)
class ScriptedTarget(PoolTarget):
    """``free`` are the sizes of the free simulators; ``failures`` what opening a session of a size raises."""

    free: list[int] = field(default_factory=list)
    busy: Sequence[tuple[int, str]] = ()
    failures: dict[int, Exception] = field(default_factory=dict)
    opened: list[Session] = field(default_factory=list)

    def simulators(self) -> list[pb.Simulator]:
        free = [pb.Simulator(instance=f"free-{i}", environments=size) for i, size in enumerate(self.free)]
        busy = [
            pb.Simulator(instance=f"busy-{i}", environments=size, in_session=True, run_id=run)
            for i, (size, run) in enumerate(self.busy)
        ]
        return [*free, *busy]

    def open(self, environments: int, **_: Any) -> Any:
        if environments in self.failures:
            raise self.failures[environments]
        fitting = [size for size in self.free if size <= environments]
        if not fitting:
            raise AtCapacity("a:1", "no place that fits is free")
        self.free.remove(max(fitting))
        session = Session(max(fitting))
        self.opened.append(session)
        return session


def target(free: Sequence[int], fewest: int = 1, most: int = 4096, **options: Any) -> ScriptedTarget:
    pool = PoolEnvironment("arena")
    return ScriptedTarget(SERVICE, pool, fewest, most, Timeouts, free=list(free), **options)


def sizes(sessions: Sequence[Any]) -> list[int]:
    return sorted(session.environments for session in sessions)


@pytest.mark.parametrize(
    ("free", "fewest", "most", "taken"),
    [
        ([1, 1, 1], 1, 2, [1, 1]),
        ([1, 4, 2], 4, 6, [2, 4]),
        ([4, 3], 3, 5, [4]),
        ([8, 1], 1, 4, [1]),
        ([2, 2], 4, 4096, [2, 2]),
    ],
)
def test_largest_simulators_that_fit_are_taken(free: list[int], fewest: int, most: int, taken: list[int]) -> None:
    assert sizes(PoolSessions(target(free, fewest, most)).connect()) == taken


def test_one_simulator_is_left_for_evaluation_unless_it_is_needed() -> None:
    assert sizes(PoolSessions(target([2, 1, 1], leave_one=True)).connect()) == [1, 2]
    assert sizes(PoolSessions(target([1, 1], fewest=2, leave_one=True)).connect()) == [1, 1]
    assert sizes(PoolSessions(target([1], leave_one=True)).connect()) == [1]


@pytest.mark.parametrize(
    ("scene", "said"),
    [
        (target([], 4, 4), "0 of 4 environments are there, waiting for simulators of pool 'arena'"),
        (target([1, 1], 4, 4), "2 of 4 environments are there"),
        (target([1], 4, 4, busy=[(3, "other"), (2, "run-1")]), "3 of 4 .* 3 more are in other sessions"),
        (target([3, 3], 4, 4), "a free simulator has 3 environments, and the run takes 1 more"),
        (
            target([2], 2, 2, failures={2: SimulatorUnreachable("a:1", "it crashed")}),
            "2 of 2 .* a session could not be opened: it crashed",
        ),
    ],
)
def test_too_few_environments_are_said_and_given_back(scene: ScriptedTarget, said: str) -> None:
    with pytest.raises(TooFewEnvironments, match=said):
        PoolSessions(scene).connect()
    assert all(session.closed for session in scene.opened)


def test_refusal_of_one_simulator_ends_the_run_and_closes_the_sessions() -> None:
    scene = target([2, 1], 1, 4, failures={1: RefusedRequest("a:1", "open.options: 'level' is unknown")})
    with pytest.raises(RefusedRequest, match="level"):
        PoolSessions(scene).connect()
    assert [session.closed for session in scene.opened] == [True]


@pytest.fixture
def joining() -> Iterator[tuple[ScriptedTarget, PoolSessions]]:
    scene = target([1], 1, 4, failures={})
    sessions = PoolSessions(scene, look_seconds=0.001)
    yield scene, sessions
    sessions.close()


def joined_of(sessions: PoolSessions) -> list[Any]:
    found: list[Any] = []

    def have_joined() -> bool:
        found.extend(sessions.joined(1))
        return bool(found)

    wait_until(have_joined)
    return found


def test_simulators_that_attach_later_join(joining: tuple[ScriptedTarget, PoolSessions]) -> None:
    scene, sessions = joining
    held = sessions.connect()
    assert sessions.joined(1) == []
    scene.free.extend([2, 8])
    joined = joined_of(sessions)
    assert sizes([*held, *joined]) == [1, 2]


def test_simulator_that_cannot_join_holds_up_nobody(joining: tuple[ScriptedTarget, PoolSessions]) -> None:
    scene, sessions = joining
    sessions.connect()
    scene.failures[1] = RefusedRequest("a:1", "it is another one")
    scene.free.append(1)
    assert sessions.joined(1) == []
    del scene.failures[1]
    joined = joined_of(sessions)
    assert sizes(joined) == [1]


class Stream:
    def __init__(self) -> None:
        self.cancelled = threading.Event()

    def cancel(self) -> None:
        self.cancelled.set()


def test_session_that_is_open_stays_so_when_another_that_joins_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    streams: dict[int, Stream] = {}
    monkeypatch.setattr(pool_sessions, "open_session_stream", lambda _address, **_: Stream())

    class Slow(ScriptedTarget):
        def open(self, environments: int, *, stream: Any = None, **_: Any) -> Any:
            made = streams[environments] = stream(
                self.service.address, pool=self.pool.name, security=self.service.security
            )
            if environments == 1:  # it loads a level until it is given up
                assert made.cancelled.wait(60)
                raise SimulatorUnreachable("a:1", "cancelled")
            return super().open(environments)

    scene = Slow(SERVICE, PoolEnvironment("arena"), 1, 4, Timeouts, free=[2, 1])
    sessions = PoolSessions(scene, look_seconds=0.001)
    assert sessions.joined(1) == []
    wait_until(lambda: len(streams) == 2)
    assert sizes(sessions.stop_joining()) == [2]
    assert not streams[2].cancelled.is_set()
    assert [session.closed for session in scene.opened] == [False]


def test_run_with_the_most_environments_looks_for_no_more() -> None:
    sessions = PoolSessions(target([1, 1, 1], 2, 2))
    sessions.connect()
    assert sessions.joined(2) == []
    assert sessions.stop_joining() == []


def test_evaluation_takes_the_largest_free_simulator(monkeypatch: pytest.MonkeyPatch) -> None:
    (session,) = evaluation_session(target([1, 8, 2]), Stop())
    assert session.environments == 8


def test_evaluation_without_a_free_simulator_is_given_up_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_sessions, "LOOK_SECONDS", 0.001)
    with pytest.raises(TooFewEnvironments, match=r"no simulator of pool 'arena' was free for evaluation .*no place"):
        evaluation_session(target([]), Stop(), patience=0.003)


def test_pool_is_waited_for_longer_than_a_simulator_and_the_status_says_so() -> None:
    now = iter(range(0, 100_000, 1000))
    progress = ProgressTracker()
    progress.set_notice("pool", "training with 3 of 4 environments")
    retry = SimulatorRetry(30.0, progress, Stop(), clock=lambda: float(next(now)))
    tries = iter(range(4))

    def connect() -> str:
        if next(tries, None) is not None:
            raise TooFewEnvironments("a:1", "2 of 4 environments are there")
        assert (progress.activity, progress.warning) == (
            Activity.WAITING_FOR_SIMULATOR,
            "2 of 4 environments are there",
        )
        assert progress.notices == {}, "how many it trained with before is no longer so"
        return "sessions"

    assert retry.call(connect) == "sessions"
    assert progress.warning == ""


def test_stop_ends_the_wait_for_a_pool() -> None:
    stop = Stop()

    def connect() -> None:
        stop.request()
        raise TooFewEnvironments("a:1", "0 of 1 environments are there")

    with pytest.raises(StopRequested):
        SimulatorRetry(30.0, ProgressTracker(), stop).call(connect)


def test_calls_for_a_pool_carry_the_run_and_its_token_which_is_read_each_time(tmp_path: Path) -> None:
    file = tmp_path / "token"
    service = Service("service.example:1", "run-1", token_file=file)
    scene = PoolTarget(service, PoolEnvironment("arena"), 1, 1, Timeouts)
    with pytest.raises(SimulatorUnreachable, match="cannot be read"):
        scene.simulators()
    for token in ("first", "second"):
        file.write_text(f"{token}\n")
        assert service.metadata() == (("authorization", f"Bearer {token}"), ("aisandbox-run", "run-1"))

"""The operator is killed (SIGKILL) before and after each of its API writes, until all is done all the same."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

from cluster import Cluster
from fault_tally import Fault, Rows, Tally
from faulty_api_server import Break, Call, Faults, FaultyApiServer, faulty_api_server
from operator_process import OperatorProcess
from scripted_place import scripted_operator
from scripted_runs import STORIES, Fleet, counting

MOST_KILLS = 100
"""In one round, after which the operator is let be."""
BETWEEN_SECONDS = 60.0
END_SECONDS = 240.0
KINDS = ("a write of a Job", "a deletion of a Job", "an event", "a write of a status")
_WRITES = dict(zip(("PATCH jobs", "DELETE jobs", "POST events"), KINDS, strict=False))


class Killer(Faults):
    """Ends the process ``pid`` at its next write: before it is passed on, or when the API server has done it."""

    def __init__(self) -> None:
        self.pid = 0
        self.before = True
        self.wanted = ""
        self.others = 0
        self.killed = threading.Event()
        self.what = ""

    def of(self, call: Call) -> Break | None:
        if not call.is_write or not self.pid:
            return None
        if self.before and self._is_due(call, "before"):
            return Break(done=False)
        return None

    def done(self, call: Call, status: int) -> bool:
        return not (call.is_write and self.pid and not self.before and self._is_due(call, "after"))

    def _is_due(self, call: Call, moment: str) -> bool:
        kind = _WRITES.get(f"{call.method} {call.subject}", "a write of a status")
        if kind != self.wanted and self.others:
            self.others -= 1
            return False
        os.kill(self.pid, signal.SIGKILL)
        self.pid = 0
        self.what = f"{moment} {kind}"
        self.killed.set()
        return True


def test_operator_that_is_killed_at_any_write_converges(
    row: Rows, place: Cluster, trainer_image: str, tmp_path: Path
) -> None:
    killer = Killer()
    with (
        row("operator-killed") as tally,
        counting(place) as jobs,
        faulty_api_server(place.kubectl.context, killer) as server,
    ):
        operator = _operator(place, trainer_image, server, tmp_path)
        number, kills = 0, 0
        while kills < tally.rounds and tally.result.lost < 3:
            with tally.fault(number) as fault:
                _one_round(fault, tally, Fleet(place, jobs), operator, killer, tally.rounds - kills)
            kills, number = tally.result.injected, number + 1
        tally.note(
            f"Killed at one of its first four writes, before and after it in turn, while {len(STORIES)} runs with "
            f"different ends are under way together; {number} such fleets. Recovery: from the last start of the "
            "operator to the end of the last run, with what trainers need."
        )


def _operator(place: Cluster, image: str, server: FaultyApiServer, folder: Path) -> OperatorProcess:
    config = server.write_kubeconfig(folder / "kubeconfig")
    return scripted_operator(place, image, folder / "operator.log", KUBECONFIG=str(config), KUBE_CONTEXT="")


def _one_round(fault: Fault, tally: Tally, fleet: Fleet, operator: OperatorProcess, killer: Killer, kills: int) -> None:
    fleet.launch(STORIES)
    try:
        for kill in range(min(kills, MOST_KILLS)):
            killer.before, killer.others = kill % 2 == 0, fault.random.choice([0, 1, 3])
            killer.wanted = fault.random.choice(KINDS)
            if not _kill_once(fleet, operator, killer):
                break
            fault.injected(killer.what)
        began = time.monotonic()
        if operator.process is None:
            killer.pid = 0
            operator.start()
        killer.pid = 0
        fleet.until_all_ended(END_SECONDS)
        fault.recovered(time.monotonic() - began)
        time.sleep(1)  # a second Job, or an event too many, would be made now
        fleet.check()
    finally:
        killer.pid = 0
        operator.kill()
        fleet.clear()


def _kill_once(fleet: Fleet, operator: OperatorProcess, killer: Killer) -> bool:
    """Whether the operator made a write to be killed at before all runs had ended."""
    killer.killed.clear()
    operator.spawn()
    assert operator.process is not None
    killer.pid = operator.process.pid
    deadline = time.monotonic() + BETWEEN_SECONDS
    while not killer.killed.wait(0.2):
        if not fleet.advance():
            killer.pid = 0
            return False
        if time.monotonic() > deadline:
            raise AssertionError(f"no write in {BETWEEN_SECONDS:.0f} s; runs: {fleet.statuses()}")
        assert operator.process.poll() is None or killer.killed.is_set(), "the operator has ended by itself"
    operator.kill()
    return True

"""Finished and failed runs lose their Jobs and pods, with the operator there or away: nothing runs again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cluster import Cluster
from fault_tally import Fault, Rows
from operator_process import OperatorProcess
from scripted_place import scripted_operator
from scripted_runs import Fleet, Run, Story, counting
from waiting import wait_until

AT_ONCE = 20
END_SECONDS = 300.0
SUCCEEDS = Story("done", "Succeeded")
FAILS = Story("failed", "Failed", ("permanent",), reason="UnsuitableSpace")
GIVEN_UP = Story("given-up", "Failed", ("crash",), {"backoffLimit": 0}, reason="TrainerCrashed")
WAYS = ("Background", "Foreground", "Orphan", "pods")


def test_what_has_ended_is_not_run_again(row: Rows, place: Cluster, trainer_image: str, tmp_path: Path) -> None:
    with row("jobs-removed") as tally, counting(place) as jobs:
        operator = scripted_operator(place, trainer_image, tmp_path / "operator.log", RESYNC_SECONDS="5")
        operator.start()
        try:
            done = 0
            while done < tally.rounds and tally.result.lost < 3:
                with tally.fault(done) as fault:
                    _one_round(fault, Fleet(place, jobs), place, operator, min(AT_ONCE, tally.rounds - done))
                done += AT_ONCE
        finally:
            operator.kill()
        tally.note("Of each twenty, ten lose theirs while the operator is away.")


def _one_round(fault: Fault, fleet: Fleet, place: Cluster, operator: OperatorProcess, count: int) -> None:
    stories = [SUCCEEDS if number % 2 == 0 else (FAILS, GIVEN_UP)[number // 2 % 2] for number in range(count)]
    runs = fleet.launch(stories)
    try:
        fleet.until_all_ended(END_SECONDS)
        before = fleet.statuses()
        for run in runs[: count // 2]:
            _remove(fault, place, run)
        operator.kill()
        for run in runs[count // 2 :]:
            _remove(fault, place, run)
        operator.start()
        _look_at_all(fleet, operator)
        after = fleet.statuses()
        for run in runs:
            assert after[run.name] == before[run.name], f"{run.name} has changed: {after[run.name]}"
        fleet.check()
        wait_until(lambda: not [pod for pod in _pods(place, runs) if pod.status.phase in ("Pending", "Running")])
    finally:
        fleet.clear()


def _pods(place: Cluster, runs: list[Run]) -> list[Any]:
    return [pod for run in runs for pod in place.pods(run.name)]


def _remove(fault: Fault, place: Cluster, run: Run) -> None:
    way = fault.random.choice(WAYS)
    kind = "finished" if run.story.phase == "Succeeded" else "failed"
    fault.injected(f"{kind}, {'its pods' if way == 'pods' else 'its Job, ' + way.lower()}", run.name)
    if way != "pods":
        place.kubectl("delete", "job", run.name, f"--cascade={way.lower()}", "--wait=false")
    if way in ("Orphan", "pods"):
        place.kubectl("delete", "pods", "-l", f"aisandbox.dev/run={run.name}", "--wait=false")


def _look_at_all(fleet: Fleet, operator: OperatorProcess) -> None:
    """The operator has reconciled every run again, and completed another run meanwhile."""
    (marker,) = fleet.launch([SUCCEEDS])
    fleet.until_all_ended(END_SECONDS)
    assert fleet.statuses()[marker.name]["phase"] == marker.story.phase
    wait_until(lambda: _resync_age(operator) > 2.0, seconds=60)
    wait_until(lambda: _resync_age(operator) < 2.0, seconds=60)


def _resync_age(operator: OperatorProcess) -> float:
    line = next(line for line in operator.metrics().splitlines() if line.startswith("aisandbox_operator_resync_age"))
    return float(line.rpartition(" ")[2])

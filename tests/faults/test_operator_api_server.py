"""The operator works against an API server of which 30 % of the calls fail, and one that is away for minutes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from cluster import Cluster
from fault_tally import Fault, Rows
from faulty_api_server import Break, Call, Faults, FaultyApiServer, Refuse, faulty_api_server
from operator_process import OperatorProcess
from scripted_place import scripted_operator
from scripted_runs import STORIES, Fleet, Story, counting
from waiting import wait_until

SHARE = 0.3
RECOVERY_SECONDS = 60.0
NEW_RUNS_SECONDS = 10.0
"""How often three more runs begin in a trouble: what is measured is the operator, not what two processors can start."""
END_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Trouble:
    """``kind``: "calls fail", "refused" (connections break at once) or "silent" (nothing answers); for so long."""

    kind: str
    seconds: float


SHORT = (Trouble("calls fail", 20), Trouble("refused", 5), Trouble("silent", 8))
FULL = (
    Trouble("calls fail", 60),
    Trouble("refused", 5),
    Trouble("calls fail", 60),
    Trouble("silent", 10),
    Trouble("calls fail", 60),
    Trouble("refused", 30),
    Trouble("calls fail", 45),
    Trouble("silent", 60),
    Trouble("refused", 120),
    Trouble("refused", 180),
)


class BadDays(Faults):
    """What the present trouble does to calls."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self.kind = ""
        self.injected: Counter[str] = Counter()
        self.calls = 0

    def of(self, call: Call) -> Refuse | Break | None:
        if self.kind == "refused":
            return Break(done=False)
        if self.kind == "silent":
            return Break(done=False, hang=60)
        if not self.kind:
            return None
        self.calls += 1
        if self._random.random() >= SHARE:
            return None
        return self._one_of(call)

    def _one_of(self, call: Call) -> Refuse | Break:
        kinds: dict[str, Refuse | Break] = {
            "429": Refuse(429, retry_after=1),
            "500": Refuse(500),
            "503": Refuse(503),
            "dropped before it was done": Break(done=False),
            "time-out, not done": Break(done=False, hang=20),
        }
        if call.is_write:
            kinds["409"] = Refuse(409)
            kinds["time-out, done"] = Break(done=True, hang=20)
        if not call.is_watch:
            kinds["answer dropped"] = Break(done=True)
        kind = self._random.choice(list(kinds))
        self.injected[kind] += 1
        return kinds[kind]

    def edit(self, call: Call, line: bytes) -> list[bytes] | None:
        if self.kind == "silent":
            return None
        if self.kind and self._random.random() < SHARE / 3:
            self.injected["watch cut"] += 1
            return None
        return [line]


def test_no_run_is_lost_by_trouble_with_the_api_server(
    row: Rows, place: Cluster, trainer_image: str, tmp_path: Path
) -> None:
    with row("api-server-faults") as tally, counting(place) as jobs:
        faults = BadDays(tally.random_of("calls"))
        with faulty_api_server(place.kubectl.context, faults) as server, tally.fault() as fault:
            config = server.write_kubeconfig(tmp_path / "kubeconfig")
            environ = {"KUBECONFIG": str(config), "KUBE_CONTEXT": "", "RESYNC_SECONDS": "300"}
            operator = scripted_operator(place, trainer_image, tmp_path / "operator.log", **environ)
            operator.start()
            fleet = Fleet(place, jobs)
            troubles = SHORT if tally.rounds == 1 else FULL[: tally.rounds]
            try:
                _live_through(fault, troubles, fleet, faults, server, operator)
            finally:
                faults.kind = ""
                operator.kill()
                fleet.clear()
        seconds = sum(trouble.seconds for trouble in troubles)
        tally.note(
            f"{len(troubles)} troubles of {seconds:.0f} s in all, of {faults.calls} calls while calls failed "
            f"{sum(faults.injected.values())} did. Recovery: until each run that had no Job then had one, and each "
            "whose Job had ended was done; the operator's resync stays at 300 s."
        )


def _live_through(
    fault: Fault,
    troubles: Sequence[Trouble],
    fleet: Fleet,
    faults: BadDays,
    server: FaultyApiServer,
    operator: OperatorProcess,
) -> None:
    launched = 0
    for trouble in troubles:
        fleet.launch(_some(launched, 4))
        launched += 4
        _until_begun(fleet)
        faults.kind = trouble.kind
        if trouble.kind == "calls fail":
            before = faults.injected.copy()
        else:
            fault.injected(f"outage, {trouble.kind}", f"{trouble.seconds:g} s")
            server.cut()
        until = next_ones = time.monotonic()
        until += trouble.seconds
        while time.monotonic() < until:
            if time.monotonic() >= next_ones:
                fleet.launch(_some(launched, 3))
                launched, next_ones = launched + 3, next_ones + NEW_RUNS_SECONDS
            fleet.advance()
            _stay_alive(operator, fault)
            time.sleep(0.5)
        faults.kind = ""
        if trouble.kind == "calls fail":
            for kind, times in (faults.injected - before).items():
                fault.injected(kind, times=times)
        server.cut()
        seconds = _recovery(fleet)
        fault.recovered(seconds)
        assert seconds <= RECOVERY_SECONDS, f"{seconds:.0f} s after {trouble}"
    fleet.until_all_ended(END_SECONDS, lambda: _stay_alive(operator, fault))
    fleet.check()


def _some(first: int, count: int) -> list[Story]:
    return [STORIES[(first + place) % len(STORIES)] for place in range(count)]


def _until_begun(fleet: Fleet) -> None:
    """The last ones are under way, so that the trouble meets runs in all states."""
    names = [run.name for run in fleet.runs[-4:]]

    def statuses() -> list[object]:
        fleet.advance()
        return [fleet.statuses().get(name) for name in names]

    wait_until(statuses, all, seconds=60, every=0.3)


def _stay_alive(operator: OperatorProcess, fault: Fault) -> None:
    """As the kubelet does: an operator that has ended is started again."""
    if operator.process is not None and operator.process.poll() is not None:
        fault.injected("the operator ended by itself", f"code {operator.process.returncode}")
        operator.spawn()


def _recovery(fleet: Fleet) -> float:
    """Seconds until what is behind now is not."""
    began = time.monotonic()
    behind = fleet.behind()
    while behind and time.monotonic() - began < 2 * RECOVERY_SECONDS:
        behind &= fleet.behind()
        time.sleep(0.3)
    assert not behind, f"still behind after {time.monotonic() - began:.0f} s: {behind}"
    return time.monotonic() - began

"""The operator's watches lose events, double and reorder them, and lose their history."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from pathlib import Path
from random import Random

from cluster import Cluster
from fault_tally import Fault, Rows
from faulty_api_server import Call, Faults, Refuse, faulty_api_server
from scripted_place import scripted_operator
from scripted_runs import STORIES, Fleet, counting

RESYNC_SECONDS = 8
END_SECONDS = 300.0
MOST_ROUNDS = 20
_EXPIRED = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Expired", "code": 410}
_NO_LEADER = {**_EXPIRED, "reason": "InternalError", "code": 500, "message": "etcdserver: no leader"}


class UnreliableWatches(Faults):
    """Half of the events do not come as they should."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._lock = threading.Lock()
        self._held: dict[str, bytes] = {}
        self._seen: list[bytes] = []
        self.injected: Counter[str] = Counter()

    def of(self, call: Call) -> Refuse | None:
        if call.is_watch and self._random.random() < 0.05:
            self.injected["history expired, at once"] += 1
            return Refuse(410)
        return None

    def edit(self, call: Call, line: bytes) -> list[bytes] | None:
        held = self._held.pop(call.subject, None)
        late = [] if held is None else [held]
        chance = self._random.random()
        if chance < 0.2:
            self.injected["dropped"] += 1
            return late
        if chance < 0.3:
            self.injected["doubled"] += 1
            return [line, line, *late]
        if chance < 0.4 and held is None:
            self.injected["reordered"] += 1
            self._held[call.subject] = line
            return []
        if chance < 0.45:
            self.injected["history expired"] += 1
            return [*late, json.dumps({"type": "ERROR", "object": _EXPIRED}).encode()]
        if chance < 0.46:
            self.injected["ended by an error"] += 1
            return [*late, json.dumps({"type": "ERROR", "object": _NO_LEADER}).encode()]
        return [line, *late]


def test_watches_with_faults_keep_no_run_from_its_end(
    row: Rows, place: Cluster, trainer_image: str, tmp_path: Path
) -> None:
    with row("watch-events") as tally, counting(place) as jobs:
        faults = UnreliableWatches(tally.random_of("events"))
        with faulty_api_server(place.kubectl.context, faults) as server:
            config = server.write_kubeconfig(tmp_path / "kubeconfig")
            environ = {"KUBECONFIG": str(config), "KUBE_CONTEXT": "", "RESYNC_SECONDS": str(RESYNC_SECONDS)}
            operator = scripted_operator(place, trainer_image, tmp_path / "operator.log", **environ)
            operator.start()
            try:
                number = 0
                while tally.result.injected < tally.rounds and tally.result.lost < 3 and number < MOST_ROUNDS:
                    with tally.fault(number) as fault:
                        _one_round(fault, Fleet(place, jobs), faults)
                    number += 1
                assert operator.process is not None
                assert operator.process.poll() is None, "the operator has ended by itself"
            finally:
                operator.kill()
        tally.note(f"The operator resyncs every {RESYNC_SECONDS} s here, not every 300 s.")


def _one_round(fault: Fault, fleet: Fleet, faults: UnreliableWatches) -> None:
    before = faults.injected.copy()
    fleet.launch(STORIES)
    try:
        fleet.until_all_ended(END_SECONDS)
        time.sleep(1)  # what is made twice would be made now
        for kind, times in (faults.injected - before).items():
            fault.injected(kind, times=times)
        fleet.check()
    finally:
        fleet.clear()

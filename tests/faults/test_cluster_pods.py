"""Pods of trainers end in a real cluster: out of memory, evicted, terminated, deleted by force."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cluster import Cluster
from fault_tally import Fault, Rows
from kubernetes import client
from operator_process import OperatorProcess
from scripted_place import ENDED, scripted_operator
from scripted_runs import Fleet, Story, counting
from waiting import wait_until

KINDS = ("out of memory", "eviction", "SIGTERM", "forced deletion")
WORKERS = 10
PATIENCE_SECONDS = 240.0


@pytest.fixture(scope="module")
def operator(place: Cluster, trainer_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    process = scripted_operator(place, trainer_image, tmp_path_factory.mktemp("operator") / "operator.log")
    process.start()
    yield process
    process.stop()


def test_pods_that_end_cost_what_they_must(row: Rows, place: Cluster, operator: OperatorProcess) -> None:
    with row("pod-ended") as tally, counting(place) as jobs:

        def one_round(fault: Fault) -> None:
            kind = KINDS[fault.number % len(KINDS)]
            fleet = Fleet(place, jobs)
            try:
                if kind == "out of memory":
                    _out_of_memory(fault, fleet, place)
                else:
                    _disrupted(fault, fleet, place, kind)
            finally:
                fleet.clear()

        tally.run(one_round, workers=WORKERS)
        tally.nearest("trainers that learn nothing, but keep their steps and end as the real one does")


def _out_of_memory(fault: Fault, fleet: Fleet, place: Cluster) -> None:
    """A failure of its own: it spends one retry, and the next trainer finishes."""
    story = Story("oom", "Succeeded", ("oom", "train"), {"backoffLimit": 1}, pods=2, spent=1, restarts=1)
    (run,) = fleet.launch([story])
    fault.injected("out of memory", run.name)
    fleet.until_all_ended(PATIENCE_SECONDS)
    fleet.check()


def _disrupted(fault: Fault, fleet: Fleet, place: Cluster, kind: str) -> None:
    """Not the trainer's fault: a run that may not retry at all finishes."""
    slow = kind == "forced deletion" and fault.number % 8 == 7
    word = "stubborn" if slow else "train"
    story = Story("ended", "Succeeded", (word, "done"), {"backoffLimit": 0}, pods=2, restarts=1, ticks=(10**6, 0.1))
    (run,) = fleet.launch([story])
    place.until_phase(run.name, "Running", *ENDED, seconds=PATIENCE_SECONDS)
    pod = place.pods(run.name)[0].metadata
    _wait_for_handler(place, pod.name)
    began = time.monotonic()
    _DO[kind](place, pod.name)
    fault.injected(f"{kind}, a trainer that ignores SIGTERM" if slow else kind, f"{run.name} {pod.name}")
    wait_until(
        lambda: place.pods(run.name),
        lambda pods: (
            any(each.metadata.uid != pod.uid and each.status.phase != "Pending" for each in pods)
            or place.status(run.name).get("phase") in ENDED
        ),
        seconds=PATIENCE_SECONDS,
    )
    fault.recovered(time.monotonic() - began)
    fleet.until_all_ended(PATIENCE_SECONDS)
    fleet.check()


def _wait_for_handler(place: Cluster, pod: str) -> None:
    """Its first line: before, a SIGTERM meets a Python that has no handler yet."""
    wait_until(lambda: "attempt" in place.kubectl("logs", pod), seconds=60)


def _evict(place: Cluster, pod: str) -> None:
    eviction = client.V1Eviction(metadata=client.V1ObjectMeta(name=pod, namespace=place.namespace))
    place.core.create_namespaced_pod_eviction(pod, place.namespace, eviction)


def _terminate(place: Cluster, pod: str) -> None:
    place.kubectl.attempt("exec", pod, "--", "sh", "-c", "kill 1")  # the shell may be killed with it


def _delete_by_force(place: Cluster, pod: str) -> None:
    place.core.delete_namespaced_pod(pod, place.namespace, grace_period_seconds=0)


_DO: dict[str, Callable[[Cluster, str], Any]] = {
    "eviction": _evict,
    "SIGTERM": _terminate,
    "forced deletion": _delete_by_force,
}

"""When objects of a cluster were first seen, by watches of the API server."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from cluster import Cluster
from kubernetes import watch

LONGEST_WAIT_SECONDS = 300.0


class NotSeen(Exception):
    """It did not come in time."""


class Sightings:
    """First times, on the clock of time.time, and counts; a key is ("job", name) or ("running", name of the job)."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._times: dict[tuple[str, str], float] = {}
        self.counts: Counter[tuple[str, str]] = Counter()

    def note(self, kind: str, name: str) -> None:
        """It is there now."""
        with self._changed:
            self._times.setdefault((kind, name), time.time())
            self.counts[kind, name] += 1
            self._changed.notify_all()

    def wait(self, kind: str, name: str) -> float:
        """When it was first seen; raises NotSeen."""
        with self._changed:
            if not self._changed.wait_for(lambda: (kind, name) in self._times, LONGEST_WAIT_SECONDS):
                raise NotSeen(f"{kind} {name}, within {LONGEST_WAIT_SECONDS:g} s")
            return self._times[kind, name]


@contextmanager
def watching(cluster: Cluster, namespace: str, seen: Sightings) -> Iterator[None]:
    """Notes each Job that is made in the namespace, and when its container runs."""
    make: Any = watch.Watch
    streams = [make(), make()]

    listing = cluster.custom.list_namespaced_custom_object
    version = listing("batch", "v1", namespace, "jobs")["metadata"]["resourceVersion"]

    def jobs() -> None:
        nonlocal version
        for event in streams[0].stream(listing, "batch", "v1", namespace, "jobs", resource_version=version):
            version = event["object"]["metadata"]["resourceVersion"]
            if event["type"] == "ADDED":
                seen.note("job", event["object"]["metadata"]["name"])

    def pods() -> None:
        for event in streams[1].stream(cluster.core.list_namespaced_pod, namespace):
            pod = event["object"]
            if any(status.state.running for status in pod.status.container_statuses or []):
                seen.note("running", (pod.metadata.labels or {}).get("batch.kubernetes.io/job-name", ""))

    stopped = threading.Event()

    def follow(look: Callable[[], None]) -> None:
        while not stopped.is_set():
            try:
                look()
            except Exception as error:
                if not stopped.is_set():
                    print(f"a watch is begun again: {error!r}")

    for each in (jobs, pods):
        threading.Thread(target=follow, args=(each,), daemon=True).start()
    try:
        yield
    finally:
        stopped.set()
        for stream in streams:
            stream.stop()


def until(holds: Callable[[], object], what: str) -> None:
    """Looks ten times a second; raises NotSeen."""
    deadline = time.monotonic() + LONGEST_WAIT_SECONDS
    while not holds():
        if time.monotonic() > deadline:
            raise NotSeen(f"{what}, within {LONGEST_WAIT_SECONDS:g} s")
        time.sleep(0.1)


def logged(cluster: Cluster, namespace: str, pod: str) -> list[tuple[float, str]]:
    """The lines of a pod's log with the node's time; nothing before the container runs."""
    done = cluster.kubectl.attempt("logs", pod, f"--namespace={namespace}", "--timestamps")
    lines = (line.partition(" ") for line in done.stdout.splitlines())
    return [(datetime.fromisoformat(when).timestamp(), text) for when, _, text in lines]

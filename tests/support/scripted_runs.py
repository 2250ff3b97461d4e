"""Runs that come to an end that is known from the start, whatever is done to the operator meanwhile.

Owns the stories (what trainers do, what a user wishes and when), what must be true in the end, and the counting of Jobs
by a watch of the test's own. Must not know the faults.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aisandbox_crds.trainingrun import RUN_LABEL
from cluster import PLURAL, Cluster, manifest_of
from kubernetes import client, watch
from scripted_place import ENDED
from urllib3.exceptions import HTTPError

Json = dict[str, Any]
QUEUE = {"kueue.x-k8s.io/queue-name": "nobody"}


@dataclass(frozen=True, slots=True)
class Story:
    """``script`` and ``spec`` make the run. ``wishes``: once it is in that phase, the user sets this of its spec.

    At the end: ``phase``, with ``reason`` if it failed; ``jobs`` Jobs and at most ``pods`` pods were made for it;
    ``spent`` and ``restarts`` are the counts of the status.
    """

    name: str
    phase: str
    script: tuple[str, ...] = ("done",)
    spec: Json = field(default_factory=dict)
    wishes: tuple[tuple[str, Json], ...] = ()
    reason: str = ""
    jobs: int = 1
    pods: int = 1
    spent: int = 0
    restarts: int = 0
    ticks: tuple[int, float] = (10, 0.05)


STORIES = (
    Story("quick", "Succeeded"),
    Story("trains", "Succeeded", ("train",), ticks=(40, 0.05)),
    Story("crash", "Succeeded", ("crash", "done"), {"backoffLimit": 2}, pods=2, spent=1, restarts=1),
    Story("given-up", "Failed", ("crash",), {"backoffLimit": 0}, reason="TrainerCrashed"),
    Story("permanent", "Failed", ("permanent",), reason="UnsuitableSpace"),
    Story("invalid", "Failed", spec={"hyperparameters": {"gamma": "much"}}, reason="InvalidRun", jobs=0, pods=0),
    Story("cancelled", "Cancelled", ("train",), wishes=(("Running", {"cancel": True}),), ticks=(10**6, 0.1)),
    Story(
        "paused",
        "Succeeded",
        ("train",),
        wishes=(("Running", {"suspend": True}), ("Suspended", {"suspend": False})),
        pods=2,
        ticks=(60, 0.1),
    ),
    Story("later", "Succeeded", spec={"suspend": True}, wishes=(("Suspended", {"suspend": False}),)),
    Story("queued", "Cancelled", spec={"labels": QUEUE}, wishes=(("Pending", {"cancel": True}),), pods=0),
    Story("short-lived", "Succeeded", spec={"ttlSecondsAfterFinished": 1}),
)
WITHOUT_PODS = tuple(story for story in STORIES if not story.pods)


@dataclass(slots=True)
class Run:
    """A run of a story."""

    name: str
    story: Story
    wished: int = 0


Jobs = Mapping[str, set[str]]
"""The uids of all Jobs that were ever made for a run."""


@contextmanager
def counting(place: Cluster) -> Iterator[Jobs]:
    """Counts from now on the Jobs that are made in the place, by a watch."""
    jobs: dict[str, set[str]] = defaultdict(set)
    stopping = threading.Event()
    make: Any = watch.Watch

    def follow() -> None:
        listing, version = place.custom.list_namespaced_custom_object, "0"
        options: Json = {"label_selector": RUN_LABEL, "timeout_seconds": 20}
        while not stopping.is_set():
            try:
                where = ("batch", "v1", place.namespace, "jobs")
                for event in make().stream(listing, *where, resource_version=version, **options):
                    metadata = event["object"]["metadata"]
                    version = metadata["resourceVersion"]
                    jobs[metadata["labels"][RUN_LABEL]].add(metadata["uid"])
                    if stopping.is_set():
                        return
            except (client.ApiException, OSError, HTTPError):
                version = "0"

    threading.Thread(target=follow, name="counting", daemon=True).start()
    try:
        yield jobs
    finally:
        stopping.set()


class Fleet:
    """Several runs at once."""

    def __init__(self, place: Cluster, jobs: Jobs) -> None:
        self._place = place
        self._jobs = jobs
        self.runs: list[Run] = []

    def launch(self, stories: Sequence[Story]) -> list[Run]:
        """Creates a run of each story."""
        new = [Run(f"{story.name}-{secrets.token_hex(3)}", story) for story in stories]
        manifests = [self._manifest(run) for run in new]
        self._place.kubectl.apply({"apiVersion": "v1", "kind": "List", "items": manifests})
        self.runs += new
        return new

    def _manifest(self, run: Run) -> Json:
        story = run.story
        steps, tick = story.ticks
        kwargs = {"script": list(story.script), "tick": tick}
        environment = {"gymnasium": {"id": "CartPole-v1", "kwargs": kwargs}}
        return manifest_of(run.name, algorithm="PPO", totalTimesteps=steps, environment=environment, **story.spec)

    def statuses(self) -> dict[str, Json]:
        """The status of each run, empty for one that has none yet."""
        return {raw["metadata"]["name"]: raw.get("status", {}) for raw in self._place.runs()}

    def advance(self) -> list[Run]:
        """Changes the specs that are due; the runs that have not ended."""
        statuses = self.statuses()
        for run in self.runs:
            phase = statuses.get(run.name, {}).get("phase")
            if run.wished < len(run.story.wishes) and phase == run.story.wishes[run.wished][0]:
                self._wish(run.name, run.story.wishes[run.wished][1])
                run.wished += 1
        return [run for run in self.runs if statuses.get(run.name, {}).get("phase") not in ENDED]

    def _wish(self, name: str, spec: Json) -> None:
        self._place.custom.patch_namespaced_custom_object(
            "aisandbox.dev", "v1alpha1", self._place.namespace, PLURAL, name, {"spec": spec}
        )

    def until_all_ended(self, seconds: float, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Waits; calls ``meanwhile`` again and again. Raises AssertionError with what is missing."""
        deadline = time.monotonic() + seconds
        while left := self.advance():
            meanwhile()
            if time.monotonic() > deadline:
                seen = self.statuses()
                raise AssertionError(
                    f"not ended in {seconds:.0f} s: {[(run.name, seen.get(run.name)) for run in left]}"
                )
            time.sleep(0.3)

    def behind(self) -> set[str]:
        """The runs that the operator has something to do about now: no Job yet, or an end without an event."""
        jobs = {job["metadata"]["name"]: job for job in self._place.jobs()}
        statuses = self.statuses()
        left = [run.name for run in self.runs if statuses.get(run.name, {}).get("phase") not in ENDED]
        return {name for name in left if name not in jobs or _has_ended(jobs[name])}

    def check(self) -> None:
        """Raises AssertionError if a run did not come to what it must, or more was made for it than it needs."""
        statuses, wrong = self.statuses(), []
        events = self._events()
        for run in self.runs:
            problems = _problems(run.story, statuses.get(run.name), events.get(run.name, []))
            made = len(self._jobs.get(run.name, ()))
            if made != run.story.jobs and not (made == 0 and run.story.jobs and not run.story.pods):
                problems.append(f"{made} Jobs were made")
            wrong += [f"{run.name}: {problem}" for problem in problems]
        assert not wrong, "; ".join(wrong)

    def _events(self) -> dict[str, list[tuple[str, int]]]:
        found: dict[str, list[tuple[str, int]]] = defaultdict(list)
        for event in self._place.core.list_namespaced_event(self._place.namespace).items:
            if event.involved_object.kind == "TrainingRun":
                found[event.involved_object.name].append((event.reason, event.count or 1))
        return found

    def clear(self) -> None:
        """Deletes the runs and what belongs to them."""
        names = [run.name for run in self.runs]
        if names:
            self._place.kubectl("delete", "trainingruns", "--ignore-not-found", "--wait=false", *names)
        self.runs.clear()


def _has_ended(job: Json) -> bool:
    conditions = job.get("status", {}).get("conditions", [])
    return any(each["type"] in ("Complete", "Failed") and each["status"] == "True" for each in conditions)


def _problems(story: Story, status: Json | None, events: list[tuple[str, int]]) -> list[str]:
    if status is None:
        return ["it is gone"]
    problems = []
    if status.get("phase") != story.phase:
        problems.append(f"{status.get('phase')}, not {story.phase}: {status.get('failure')}")
    if story.reason and status.get("failure", {}).get("reason") != story.reason:
        problems.append(f"failed for {status.get('failure')}, not for {story.reason}")
    for key, wanted in (("restartsCountTowardsMax", story.spent), ("restarts", story.restarts)):
        if status.get(key) != wanted:
            problems.append(f"{key} is {status.get(key)}, not {wanted}")
    created = [reason for reason, count in events for _ in range(count)]
    # An event about a trainer may be created for each, and once more when its number becomes known.
    once = {"JobCreated", story.phase if story.phase != "Failed" else story.reason, "Suspended"}
    of_trainers = 2 * max(story.pods, 1)
    most = {reason: 1 if reason in once else of_trainers for reason in created}
    often = {reason: created.count(reason) for reason in most if created.count(reason) > most[reason]}
    return problems + [f"{times} events with the reason {reason}" for reason, times in often.items()]

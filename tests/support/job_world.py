"""A cluster in memory: runs, Jobs and pods, a Job controller and a kubelet that take one step at a time.

It has the calls of :class:`aisandbox_operator.cluster.Cluster`, with faults: a call may fail before or after it was
done. It does what the operator relies on: uids, versions, preconditions, owner references, foreground deletion, the
Job's ``failed`` as podFailurePolicy counts, ``suspend``. It fails the test when an invariant is broken.
"""

from __future__ import annotations

import copy
import itertools
import json
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from aisandbox_crds.times import format_time
from aisandbox_kubernetes import Conflict, Unavailable
from aisandbox_operator.events import Event
from aisandbox_operator.observed_objects import ObservedRun

Json = dict[str, Any]
DONE = ("Succeeded", "Failed", "Cancelled")
IGNORED = 143
PERMANENT = 78
QUEUE = "kueue.x-k8s.io/queue-name"


class Crash(BaseException):
    """The operator was killed."""


class World:
    """``random`` decides all; ``trouble`` is the share of calls that fail (or, if ``deadly``, kill the operator)."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.trouble = 0.0
        self.deadly = False
        self.admits = True
        self.now = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
        self.runs: dict[str, Json] = {}
        self.jobs: dict[str, Json] = {}
        self.pods: dict[str, Json] = {}
        self.scripts: dict[str, list[int]] = {}
        self.events: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.jobs_made: Counter[str] = Counter()
        self.jobs_lost: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.ends: dict[str, Json] = {}
        self.succeeded: set[str] = set()
        self._numbers = itertools.count(1)

    # what users do

    def create(self, name: str, exits: list[int], **spec: Any) -> None:
        """A run whose trainers end with these codes, the last one for all further ones; -1: never ends by itself."""
        uid = f"run-{next(self._numbers)}"
        self.scripts[uid] = exits
        metadata = {"name": name, "uid": uid, "generation": 1, "resourceVersion": str(next(self._numbers))}
        self.runs[name] = {
            "apiVersion": "aisandbox.dev/v1alpha1",
            "kind": "TrainingRun",
            "metadata": metadata,
            "spec": {"algorithm": "PPO", "totalTimesteps": 100, **spec},
        }

    def change_spec(self, name: str, **spec: Any) -> None:
        run = self.runs.get(name)
        if run is None:
            return
        run["spec"].update(spec)
        run["metadata"]["generation"] += 1
        self._touch(run)

    def delete_run(self, name: str) -> None:
        """In the background, as kubectl does: the garbage collector removes the Job later."""
        self.runs.pop(name, None)

    def lose_job(self, name: str) -> None:
        """A user deletes the Job; its pods are ended."""
        job = self.jobs.pop(name, None)
        if job is not None:
            self.jobs_lost[_owner(job)] += 1
            for pod in self._pods_of(job):
                pod["metadata"].setdefault("deletionTimestamp", self._time())

    # the calls of the operator

    async def run(self, name: str) -> Json | None:
        return self._read(self.runs.get(name))

    async def job(self, name: str) -> Json | None:
        return self._read(self.jobs.get(name))

    async def pods_labelled(self, name: str) -> list[Json]:
        return [pod for pod in self.pods.values() if pod["metadata"]["labels"]["aisandbox.dev/run"] == name]

    async def create_job(self, manifest: Json) -> None:
        with self._fate("create"):
            name = manifest["metadata"]["name"]
            known = self.jobs.get(name)
            if known is not None:
                if _owner(known) != _owner(manifest) or known["spec"]["suspend"] != manifest["spec"]["suspend"]:
                    raise Conflict("apply", "another Job has the name")
                return
            uid = _owner(manifest)
            # A Job that is deleted before the operator has read its end was the only record of that.
            assert uid not in self.succeeded or self.jobs_lost[uid], f"{name} was done and is begun again"
            assert uid not in self.ends, f"{name} has ended and is begun again"
            self.jobs_made[uid] += 1
            job = copy.deepcopy(manifest)
            job["metadata"]["uid"] = f"job-{next(self._numbers)}"
            job["metadata"]["creationTimestamp"] = self._time()
            job["status"] = {"conditions": []}
            self.jobs[name] = job

    async def suspend_job(self, name: str, uid: str, suspended: bool, annotations: Mapping[str, str]) -> None:
        with self._fate("suspend"):
            job = self._job_with(name, uid)
            job["spec"]["suspend"] = suspended
            job["metadata"]["annotations"].update(annotations)

    async def refused_pods(self, job_uid: str) -> list[Json]:
        return []

    async def delete_job(self, name: str, uid: str) -> None:
        with self._fate("delete"):
            if name in self.jobs:
                self._job_with(name, uid)["metadata"].setdefault("deletionTimestamp", self._time())

    async def mark_disrupted(self, pod: str, uid: str, time: str) -> None:
        with self._fate("mark"):
            if pod not in self.pods:
                raise Conflict("mark", "it does not exist")
            self.pods[pod]["status"].setdefault("conditions", []).append({"type": "DisruptionTarget", "status": "True"})

    async def apply_status(self, run: ObservedRun, fields: Mapping[str, Any]) -> Json:
        with self._fate("status"):
            found = self.runs.get(run.name)
            if found is None or found["metadata"]["resourceVersion"] != run.resource_version:
                raise Conflict("apply status", "the run has changed")
            uid = run.uid
            end, seen = self.ends.get(uid), "observedGeneration"
            same = end is None or {**fields, seen: 0} == {
                key: value for key, value in {**end, seen: 0}.items() if key in fields
            }
            assert same, f"{run.name} has ended and is changed"
            found["status"] = {**found.get("status", {}), **json.loads(json.dumps(fields))}
            if "failure" not in fields:
                found["status"].pop("failure", None)
            self._touch(found)
            if fields["phase"] in DONE:
                self.ends[uid] = copy.deepcopy(found["status"])
            return found

    async def create_event(self, run: ObservedRun, event: Event, time: str) -> None:
        with self._fate("event"):
            self.events[event.name] = 1

    # what the cluster does

    def step(self) -> None:
        """The Job controller, the kubelet and the garbage collector, in any order, or not at all."""
        self.now += timedelta(seconds=self.random.choice([0, 1, 5]))
        work = [(self._control, job) for job in self.jobs.values()] + [(self._live, pod) for pod in self.pods.values()]
        work += [(self._admit, job) for job in self.jobs.values()]
        self.random.shuffle(work)
        for action, thing in work:
            if self.random.random() < 0.7:
                action(thing)
        uids = {run["metadata"]["uid"] for run in self.runs.values()}
        for name, job in list(self.jobs.items()):
            if _owner(job) not in uids:
                self.lose_job(name)
        assert_one_trainer(self)

    def _admit(self, job: Json) -> None:
        """As Kueue: a queued Job gets its place, and now and then loses it."""
        if any(_has(job["status"], kind) for kind in ("Complete", "Failed")):
            return
        if QUEUE in job["metadata"]["labels"] and "deletionTimestamp" not in job["metadata"]:
            job["spec"]["suspend"] = not self.admits or self.random.random() < 0.2 * bool(self.trouble)

    def _control(self, job: Json) -> None:
        name, status, pods = job["metadata"]["name"], job["status"], self._pods_of(job)
        if self.jobs.get(name) is not job:
            return
        live = [pod for pod in pods if pod["status"]["phase"] in ("Pending", "Running")]
        if "deletionTimestamp" in job["metadata"] or job["spec"]["suspend"]:
            for pod in live:
                pod["metadata"].setdefault("deletionTimestamp", self._time())
        self._count(job, pods)
        if "deletionTimestamp" in job["metadata"]:
            if not live:
                self.jobs_lost[_owner(job)] += 1
                for pod in pods:
                    self.pods.pop(pod["metadata"]["name"], None)
                self.jobs.pop(name)
            return
        status["active"] = len(live)
        if _has(status, "Complete") or _has(status, "Failed"):
            return
        _set(status, "Suspended", job["spec"]["suspend"])
        if any(pod["status"]["phase"] == "Succeeded" for pod in pods):
            _set(status, "Complete", True)
        elif any(_code(pod) == PERMANENT for pod in pods):
            _set(status, "Failed", True, "PodFailurePolicy")
        elif status.get("failed", 0) > job["spec"]["backoffLimit"]:
            _set(status, "Failed", True, "BackoffLimitExceeded")
        elif not live and not job["spec"]["suspend"]:
            self._make_pod(job)
            status["active"] = 1

    def _count(self, job: Json, pods: list[Json]) -> None:
        for pod in pods:
            counted = pod.setdefault("counted", False)
            if pod["status"]["phase"] == "Failed" and not counted:
                pod["counted"] = True
                if _code(pod) != IGNORED and "deletionTimestamp" not in pod["metadata"]:
                    job["status"]["failed"] = job["status"].get("failed", 0) + 1
            if pod["status"]["phase"] in ("Failed", "Succeeded") and "deletionTimestamp" in pod["metadata"]:
                self.pods.pop(pod["metadata"]["name"], None)

    def _make_pod(self, job: Json) -> None:
        number = next(self._numbers)
        pod = copy.deepcopy(job["spec"]["template"])
        owner = {"kind": "Job", "uid": job["metadata"]["uid"], "controller": True}
        pod["metadata"] |= {"name": f"pod-{number}", "uid": f"pod-{number}", "ownerReferences": [owner]}
        pod["metadata"]["creationTimestamp"] = self._time()
        pod["status"] = {"phase": "Pending"}
        pod["run"] = _owner(job)
        self.pods[pod["metadata"]["name"]] = pod

    def _live(self, pod: Json) -> None:
        status, ending = pod["status"], "deletionTimestamp" in pod["metadata"]
        if status["phase"] == "Pending":
            if ending:
                self._end(pod, IGNORED)
            else:
                status["phase"] = "Running"
                state = {"running": {"startedAt": self._time()}}
                status["containerStatuses"] = [{"name": "trainer", "state": state}]
        elif status["phase"] == "Running":
            script = self.scripts[pod["run"]]
            code = script[0] if len(script) == 1 else script.pop(0)
            if ending and code != 0:
                self._end(pod, IGNORED)
            elif code >= 0:
                self._end(pod, code)
        elif ending and not any(
            job["metadata"]["uid"] == pod["metadata"]["ownerReferences"][0]["uid"] for job in self.jobs.values()
        ):
            self.pods.pop(pod["metadata"]["name"], None)

    def _end(self, pod: Json, code: int) -> None:
        pod["status"]["phase"] = "Failed" if code else "Succeeded"
        if not code:
            self.succeeded.add(pod["run"])
        elif code not in (IGNORED, PERMANENT):
            self.failures[pod["run"]] += 1
        terminated = {"exitCode": code, "reason": "Error" if code else "Completed", "finishedAt": self._time()}
        pod["status"]["containerStatuses"] = [{"name": "trainer", "state": {"terminated": terminated}}]

    def _pods_of(self, job: Json) -> list[Json]:
        uid = job["metadata"]["uid"]
        return [pod for pod in self.pods.values() if pod["metadata"]["ownerReferences"][0]["uid"] == uid]

    def _job_with(self, name: str, uid: str) -> Json:
        job = self.jobs.get(name)
        if job is None or job["metadata"]["uid"] != uid:
            raise Conflict("write Job", "it is another one")
        return job

    def _read(self, thing: Json | None) -> Json | None:
        self.calls["read"] += 1
        if self.random.random() < self.trouble and not self.deadly:
            raise Unavailable("get", "500")
        return copy.deepcopy(thing)

    def _fate(self, call: str) -> _Fate:
        self.calls[call] += 1
        fails = self.random.random() < self.trouble
        return _Fate(fails, before=self.random.random() < 0.5, error=Crash() if self.deadly else Unavailable(call, "-"))

    def _touch(self, run: Json) -> None:
        run["metadata"]["resourceVersion"] = str(next(self._numbers))

    def _time(self) -> str:
        return format_time(self.now)


class _Fate:
    """Fails before or after the block, if it fails at all."""

    def __init__(self, fails: bool, before: bool, error: BaseException) -> None:
        self._fails, self._before, self._error = fails, before, error

    def __enter__(self) -> None:
        if self._fails and self._before:
            raise self._error

    def __exit__(self, kind: object, *_: object) -> None:
        if self._fails and kind is None:
            raise self._error


def assert_one_trainer(world: World) -> None:
    """No run ever has two running trainers."""
    at_work = Counter(pod["run"] for pod in world.pods.values() if pod["status"]["phase"] == "Running")
    assert all(count == 1 for count in at_work.values()), at_work


def _owner(job: Json) -> str:
    return str(job["metadata"]["ownerReferences"][0]["uid"])


def _code(pod: Json) -> int | None:
    for container in pod["status"].get("containerStatuses", []):
        if "terminated" in container["state"]:
            return int(container["state"]["terminated"]["exitCode"])
    return None


def _has(status: Json, kind: str) -> bool:
    return any(each["type"] == kind and each["status"] == "True" for each in status["conditions"])


def _set(status: Json, kind: str, holds: bool, reason: str = "") -> None:
    others = [each for each in status["conditions"] if each["type"] != kind]
    status["conditions"] = [*others, {"type": kind, "status": "True" if holds else "False", "reason": reason}]

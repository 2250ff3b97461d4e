"""Reads the API server's JSON of pods, of why a pod is refused, and what a trainer has left in its pod.

Never raises for an object that has a name: what cannot be read counts as absent. Must not know Jobs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from aisandbox_crds import (
    MAX_TIMESTEPS,
    Artifact,
    InvalidRun,
    Reason,
    TerminationMessage,
    bounded_early_stop,
    parse_time,
)

from aisandbox_operator.json_values import conditions_by_type, controller, entry_named, is_true, mapping, sequence, text
from aisandbox_operator.observed_objects import ObservedPod
from aisandbox_operator.trainer_pod import CONTAINER, PREPARE_CONTAINER

MAX_ATTEMPT = 10**9
_POD_NAME = re.compile(r'pods "[^"]*"')

LOG_TAIL_LENGTH = 1000
"""Characters kept of the end of a log."""


def environment_variable(pod_spec: Mapping[str, Any], name: str) -> str:
    """The value of a variable of the trainer's container; empty without one."""
    container = entry_named(pod_spec.get("containers"), CONTAINER)
    return text(entry_named(container.get("env"), name).get("value"))


def read_pod(raw: Mapping[str, Any]) -> ObservedPod:
    """A pod of a run."""
    metadata, spec, status = (mapping(raw.get(key)) for key in ("metadata", "spec", "status"))
    conditions = conditions_by_type(status)
    scheduled = mapping(conditions.get("PodScheduled"))
    unscheduled = scheduled.get("status") == "False"
    owner = controller(metadata)
    pod = ObservedPod(
        name=text(metadata.get("name")),
        uid=text(metadata.get("uid")),
        phase=text(status.get("phase")) or "Pending",
        job_uid=text(owner.get("uid")) if owner.get("kind") == "Job" else "",
        files_uid=environment_variable(spec, "RUN_UID"),
        created=parse_time(metadata.get("creationTimestamp")),
        scheduled=None if unscheduled else parse_time(scheduled.get("lastTransitionTime")),
        deletion_time=parse_time(metadata.get("deletionTimestamp")),
        node=text(spec.get("nodeName")),
        image=text(entry_named(spec.get("containers"), CONTAINER).get("image")),
        lost_since=_lost_since(spec, status, conditions),
        sidecars=tuple(
            text(each.get("name"))
            for each in sequence(status.get("containerStatuses"))
            if each.get("name") != CONTAINER and mapping(each.get("state")).get("running")
        ),
        reason=text(status.get("reason")),
        message=text(status.get("message")),
        was_disrupted=is_true(conditions.get("DisruptionTarget")),
        unscheduled=(text(scheduled.get("reason")) or Reason.UNSCHEDULABLE) if unscheduled else "",
        unscheduled_message=text(scheduled.get("message")) if unscheduled else "",
    )
    return _with_preparation(
        _with_trainer(pod, entry_named(status.get("containerStatuses"), CONTAINER)),
        entry_named(status.get("initContainerStatuses"), PREPARE_CONTAINER),
    )


def _lost_since(
    spec: Mapping[str, Any], status: Mapping[str, Any], conditions: Mapping[str, Mapping[str, Any]]
) -> datetime | None:
    """Since when the pod's node has not answered; None if it has, or no container of the pod was running.

    The node controller takes the condition Ready from the pods of a node that it does not hear of, and leaves what the
    kubelet has written of their containers (k8s.io/kubernetes, pkg/controller/nodelifecycle). A kubelet itself reports
    a pod as not ready only together with one of its containers, or with a readiness gate.
    """
    containers = list(sequence(status.get("containerStatuses")))
    ready = mapping(conditions.get("Ready"))
    if status.get("reason") == Reason.NODE_LOST:  # the word of older node controllers, and of some clouds
        return parse_time(ready.get("lastTransitionTime")) or parse_time(status.get("startTime"))
    if ready.get("status") not in ("False", "Unknown") or not containers or spec.get("readinessGates"):
        return None
    is_running = all(each.get("ready") is True and mapping(each.get("state")).get("running") for each in containers)
    return parse_time(ready.get("lastTransitionTime")) if is_running else None


def read_pod_refusal(events: Iterable[Mapping[str, Any]]) -> str:
    """Why the API server does not accept a Job's pod: the newest of the Job controller's events about that.

    The pod's name is left out: every try has another one.
    """
    notes = [(_event_time(event), text(event.get("note"))) for event in events]
    note = max(notes, default=("", ""))[1].removeprefix("Error creating: ")
    return _POD_NAME.sub("the pod", note)


def _event_time(event: Mapping[str, Any]) -> str:
    series = mapping(event.get("series"))
    times = (series.get("lastObservedTime"), event.get("eventTime"), event.get("deprecatedLastTimestamp"))
    return max((text(time) for time in times), default="")


def _with_trainer(pod: ObservedPod, container: Mapping[str, Any]) -> ObservedPod:
    state = mapping(container.get("state"))
    waiting, running, over = (mapping(state.get(key)) for key in ("waiting", "running", "terminated"))
    code = over.get("exitCode")
    message, log_tail = read_termination_message(over.get("message"))
    return replace(
        pod,
        waits_for=text(waiting.get("reason")),
        wait_message=text(waiting.get("message")),
        is_running=bool(running) and not pod.is_over,
        started=parse_time(running.get("startedAt")) or parse_time(over.get("startedAt")),
        exit_code=code if isinstance(code, int) and not isinstance(code, bool) else None,
        exit_reason=text(over.get("reason")),
        ended=parse_time(over.get("finishedAt")),
        termination_message=message,
        log_tail=log_tail,
    )


def _with_preparation(pod: ObservedPod, container: Mapping[str, Any]) -> ObservedPod:
    """Why the container before the trainer's waits, or has failed, while the trainer has not started."""
    state = mapping(container.get("state"))
    waiting, over = (mapping(state.get(key)) for key in ("waiting", "terminated"))
    if pod.started is not None or pod.exit_code is not None:
        return pod
    if waiting.get("reason") not in (None, "PodInitializing"):
        return replace(pod, waits_for=text(waiting.get("reason")), wait_message=text(waiting.get("message")))
    if over.get("exitCode"):
        return replace(pod, message=pod.message or text(over.get("message"))[-LOG_TAIL_LENGTH:].strip())
    return pod


def read_termination_message(text: object) -> tuple[TerminationMessage | None, str]:
    """A trainer's termination message, or else the end of its log, which Kubernetes puts in its place."""
    if not isinstance(text, str) or not text:
        return None, ""
    try:
        message = TerminationMessage.from_json(text)
    except InvalidRun:
        return None, " | ".join(text[-LOG_TAIL_LENGTH:].split("\n")).strip(" |")
    if not (0 <= message.attempt <= MAX_ATTEMPT and 0 <= message.timesteps <= MAX_TIMESTEPS):
        return None, ""
    return replace(
        message,
        latest_checkpoint=_valid(message.latest_checkpoint),
        latest_model=_valid(message.latest_model),
        best_model=_valid(message.best_model),
        resumed_from=_valid(message.resumed_from),
        started_from=_valid(message.started_from),
        early_stop=message.early_stop and bounded_early_stop(message.early_stop),
    ), ""


def _valid(artifact: Artifact | None) -> Artifact | None:
    """The artifact if the resource's schema takes it; a trainer that was killed may have written anything."""
    if artifact is None or not 0 <= artifact.timesteps <= MAX_TIMESTEPS:
        return None
    return artifact if artifact.time is None or parse_time(artifact.time) else replace(artifact, time=None)

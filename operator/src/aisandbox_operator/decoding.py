"""Reads the API server's JSON of runs, Jobs and pods.

Never raises for an object that has a name: what cannot be read counts as absent, because one malformed object must not
keep the operator from the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from aisandbox_crds import (
    MAX_NAME_LENGTH,
    MAX_TIMESTEPS,
    QUEUE_LABEL,
    Artifact,
    FieldError,
    InvalidRun,
    Reason,
    TerminationMessage,
    TrainingRunSpec,
    TrainingRunStatus,
    bounded_early_stop,
    camel_case,
    is_run_name,
    parse_time,
    spec_from_json,
    status_from_json,
    validate_spec,
)

from aisandbox_operator.job_manifest import (
    FAILURES_BEFORE_ANNOTATION,
    ORIGIN_ANNOTATION,
    RESUMED_ANNOTATION,
    decode_origin,
)
from aisandbox_operator.observed_objects import ObservedJob, ObservedPod, ObservedRun
from aisandbox_operator.trainer_pod import CONTAINER, PREPARE_CONTAINER

MAX_ATTEMPT = 10**9
_POD_NAME = re.compile(r'pods "[^"]*"')

LOG_TAIL_LENGTH = 1000
"""Characters kept of the end of a log."""


def read_run(raw: Mapping[str, Any]) -> ObservedRun:
    """A TrainingRun, also if its spec is not valid."""
    metadata = _mapping(raw.get("metadata"))
    spec, problem = _read_spec(raw.get("spec"))
    name = _text(metadata.get("name"))
    if not problem and not is_run_name(name):
        problem = f"metadata.name: must be a DNS-1123 label of at most {MAX_NAME_LENGTH} characters"
    if not problem and spec is not None and spec.start_from is not None and spec.start_from.run == name:
        problem = "spec.startFrom.run: must be another run"
    return ObservedRun(
        name=name,
        uid=_text(metadata.get("uid")),
        spec=spec,
        status=_read_status(_mapping(raw.get("status"))),
        problem=problem,
        generation=_count(metadata.get("generation")),
        resource_version=_text(metadata.get("resourceVersion")),
        created=parse_time(metadata.get("creationTimestamp")),
        is_being_deleted=bool(metadata.get("deletionTimestamp")),
        labels=_texts(metadata.get("labels")),
    )


def read_job(raw: Mapping[str, Any]) -> ObservedJob:
    """A Job."""
    metadata, spec, status = (_mapping(raw.get(key)) for key in ("metadata", "spec", "status"))
    owner = _controller(metadata)
    conditions = _conditions(status)
    end = next((kind for kind in ("Complete", "Failed") if _is_true(conditions.get(kind))), "")
    why = _mapping(conditions.get(end))
    is_suspended = spec.get("suspend") is True
    annotations = _mapping(metadata.get("annotations"))
    return ObservedJob(
        name=_text(metadata.get("name")),
        uid=_text(metadata.get("uid")),
        owner_kind=_text(owner.get("kind")),
        owner_uid=_text(owner.get("uid")),
        files_uid=_environment_variable(_mapping(_mapping(spec.get("template")).get("spec")), "RUN_UID"),
        origin=decode_origin(_text(annotations.get(ORIGIN_ANNOTATION))),
        resumed_generation=_count(annotations.get(RESUMED_ANNOTATION)),
        suspended_by=_manager_of_suspend(metadata) if is_suspended else "",
        is_being_deleted=bool(metadata.get("deletionTimestamp")),
        is_finishing=any(_is_true(conditions.get(kind)) for kind in ("FailureTarget", "SuccessCriteriaMet")),
        is_suspended=is_suspended,
        has_settled=_is_true(conditions.get("Suspended")) == is_suspended,
        active=_count(status.get("active")),
        failed=_count(status.get("failed")),
        failures_before=_count(annotations.get(FAILURES_BEFORE_ANNOTATION)),
        end=end,
        end_reason=_text(why.get("reason")),
        end_message=_text(why.get("message")),
        ended=parse_time(status.get("completionTime")) or parse_time(why.get("lastTransitionTime")),
        created=parse_time(metadata.get("creationTimestamp")),
        started=parse_time(status.get("startTime")),
        queue=_text(_mapping(metadata.get("labels")).get(QUEUE_LABEL)),
    )


def read_pod(raw: Mapping[str, Any]) -> ObservedPod:
    """A pod of a run."""
    metadata, spec, status = (_mapping(raw.get(key)) for key in ("metadata", "spec", "status"))
    conditions = _conditions(status)
    scheduled = _mapping(conditions.get("PodScheduled"))
    unscheduled = scheduled.get("status") == "False"
    owner = _controller(metadata)
    pod = ObservedPod(
        name=_text(metadata.get("name")),
        uid=_text(metadata.get("uid")),
        phase=_text(status.get("phase")) or "Pending",
        job_uid=_text(owner.get("uid")) if owner.get("kind") == "Job" else "",
        files_uid=_environment_variable(spec, "RUN_UID"),
        created=parse_time(metadata.get("creationTimestamp")),
        scheduled=None if unscheduled else parse_time(scheduled.get("lastTransitionTime")),
        deletion_time=parse_time(metadata.get("deletionTimestamp")),
        node=_text(spec.get("nodeName")),
        image=_text(_named(spec.get("containers"), CONTAINER).get("image")),
        lost_since=_lost_since(spec, status, conditions),
        sidecars=tuple(
            _text(each.get("name"))
            for each in _sequence(status.get("containerStatuses"))
            if each.get("name") != CONTAINER and _mapping(each.get("state")).get("running")
        ),
        reason=_text(status.get("reason")),
        message=_text(status.get("message")),
        was_disrupted=_is_true(conditions.get("DisruptionTarget")),
        unscheduled=(_text(scheduled.get("reason")) or Reason.UNSCHEDULABLE) if unscheduled else "",
        unscheduled_message=_text(scheduled.get("message")) if unscheduled else "",
    )
    return _with_preparation(
        _with_trainer(pod, _named(status.get("containerStatuses"), CONTAINER)),
        _named(status.get("initContainerStatuses"), PREPARE_CONTAINER),
    )


def _lost_since(
    spec: Mapping[str, Any], status: Mapping[str, Any], conditions: Mapping[str, Mapping[str, Any]]
) -> datetime | None:
    """Since when the pod's node has not answered; None if it has, or no container of the pod was running.

    The node controller takes the condition Ready from the pods of a node that it does not hear of, and leaves what the
    kubelet has written of their containers (k8s.io/kubernetes, pkg/controller/nodelifecycle). A kubelet itself reports
    a pod as not ready only together with one of its containers, or with a readiness gate.
    """
    containers = list(_sequence(status.get("containerStatuses")))
    ready = _mapping(conditions.get("Ready"))
    if status.get("reason") == Reason.NODE_LOST:  # the word of older node controllers, and of some clouds
        return parse_time(ready.get("lastTransitionTime")) or parse_time(status.get("startTime"))
    if ready.get("status") not in ("False", "Unknown") or not containers or spec.get("readinessGates"):
        return None
    is_running = all(each.get("ready") is True and _mapping(each.get("state")).get("running") for each in containers)
    return parse_time(ready.get("lastTransitionTime")) if is_running else None


def _manager_of_suspend(metadata: Mapping[str, Any]) -> str:
    """The field manager of a Job's ``spec.suspend`` that has changed it last."""
    managers = [
        (_text(each.get("time")), _text(each.get("manager")))
        for each in _sequence(metadata.get("managedFields"))
        if "f:suspend" in _mapping(_mapping(each.get("fieldsV1")).get("f:spec"))
    ]
    return max(managers, default=("", ""))[1]


def read_pod_refusal(events: Iterable[Mapping[str, Any]]) -> str:
    """Why the API server does not accept a Job's pod: the newest of the Job controller's events about that.

    The pod's name is left out: every try has another one.
    """
    notes = [(_event_time(event), _text(event.get("note"))) for event in events]
    note = max(notes, default=("", ""))[1].removeprefix("Error creating: ")
    return _POD_NAME.sub("the pod", note)


def _event_time(event: Mapping[str, Any]) -> str:
    series = _mapping(event.get("series"))
    times = (series.get("lastObservedTime"), event.get("eventTime"), event.get("deprecatedLastTimestamp"))
    return max((_text(time) for time in times), default="")


def _with_trainer(pod: ObservedPod, container: Mapping[str, Any]) -> ObservedPod:
    state = _mapping(container.get("state"))
    waiting, running, over = (_mapping(state.get(key)) for key in ("waiting", "running", "terminated"))
    code = over.get("exitCode")
    message, log_tail = read_termination_message(over.get("message"))
    return replace(
        pod,
        waits_for=_text(waiting.get("reason")),
        wait_message=_text(waiting.get("message")),
        is_running=bool(running) and not pod.is_over,
        started=parse_time(running.get("startedAt")) or parse_time(over.get("startedAt")),
        exit_code=code if isinstance(code, int) and not isinstance(code, bool) else None,
        exit_reason=_text(over.get("reason")),
        ended=parse_time(over.get("finishedAt")),
        termination_message=message,
        log_tail=log_tail,
    )


def _with_preparation(pod: ObservedPod, container: Mapping[str, Any]) -> ObservedPod:
    """Why the container before the trainer's waits, or has failed, while the trainer has not started."""
    state = _mapping(container.get("state"))
    waiting, over = (_mapping(state.get(key)) for key in ("waiting", "terminated"))
    if pod.started is not None or pod.exit_code is not None:
        return pod
    if waiting.get("reason") not in (None, "PodInitializing"):
        return replace(pod, waits_for=_text(waiting.get("reason")), wait_message=_text(waiting.get("message")))
    if over.get("exitCode"):
        return replace(pod, message=pod.message or _text(over.get("message"))[-LOG_TAIL_LENGTH:].strip())
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


def _read_spec(raw: object) -> tuple[TrainingRunSpec | None, str]:
    try:
        spec = spec_from_json(raw)
    except InvalidRun as error:
        return None, str(error)
    try:
        validate_spec(spec)
    except InvalidRun as error:
        return spec, "; ".join(f"{_resource_path(each)}: {each.rule}" for each in error.errors)
    return spec, ""


def _resource_path(error: FieldError) -> str:
    """``spec.totalTimesteps`` for ``total_timesteps``; a hyperparameter keeps its name."""
    if error.field == "request":
        return "spec"
    first, *rest = error.field.split(".")
    named = rest if first == "hyperparameters" else [camel_case(word) for word in rest]
    return ".".join(["spec", camel_case(first), *named])


def _read_status(raw: Mapping[str, Any]) -> TrainingRunStatus:
    try:
        return status_from_json(raw)
    except InvalidRun:
        return status_from_json({key: value for key, value in raw.items() if _can_be_read(key, value)})


def _can_be_read(key: str, value: object) -> bool:
    try:
        status_from_json({key: value})
    except InvalidRun:
        return False
    return True


def _controller(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    owners = (owner for owner in _sequence(metadata.get("ownerReferences")) if owner.get("controller") is True)
    return next(owners, {})


def _conditions(status: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {_text(condition.get("type")): condition for condition in _sequence(status.get("conditions"))}


def _environment_variable(pod_spec: Mapping[str, Any], name: str) -> str:
    container = _named(pod_spec.get("containers"), CONTAINER)
    return _text(_named(container.get("env"), name).get("value"))


def _named(entries: object, name: str) -> Mapping[str, Any]:
    return next((entry for entry in _sequence(entries) if entry.get("name") == name), {})


def _is_true(condition: object) -> bool:
    return _mapping(condition).get("status") == "True"


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _sequence(value: object) -> Iterable[Mapping[str, Any]]:
    return [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list) else []


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: object) -> Mapping[str, str]:
    return {key: text for key, text in _mapping(value).items() if isinstance(text, str)}


def _count(value: object) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0

"""Reads the API server's JSON of runs and Jobs; :mod:`.pod_decoding` reads that of pods.

Never raises for an object that has a name: what cannot be read counts as absent, because one malformed object must not
keep the operator from the others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from aisandbox_crds import (
    CHANGEABLE_FIELDS,
    MAX_NAME_LENGTH,
    QUEUE_LABEL,
    FieldError,
    InvalidRun,
    TrainingRunSpec,
    TrainingRunStatus,
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
from aisandbox_operator.json_values import (
    conditions_by_type,
    controller,
    count,
    is_true,
    mapping,
    sequence,
    text,
    texts,
)
from aisandbox_operator.observed_objects import ObservedJob, ObservedRun
from aisandbox_operator.pod_decoding import environment_variable
from aisandbox_operator.resource_words import resource_path, rule_in_resource_words


def read_run(raw: Mapping[str, Any]) -> ObservedRun:
    """A TrainingRun, also if its spec is not valid."""
    metadata = mapping(raw.get("metadata"))
    spec, problem, may_be_new = _read_spec(raw.get("spec"))
    name = text(metadata.get("name"))
    if not problem and not is_run_name(name):
        problem = f"metadata.name: must be a DNS-1123 label of at most {MAX_NAME_LENGTH} characters"
    if not problem and spec is not None and spec.start_from is not None and spec.start_from.run == name:
        problem = "spec.startFrom.run: must be another run"
    return ObservedRun(
        name=name,
        uid=text(metadata.get("uid")),
        spec=spec,
        status=_read_status(mapping(raw.get("status"))),
        problem=problem,
        problem_may_be_new=may_be_new,
        generation=count(metadata.get("generation")),
        resource_version=text(metadata.get("resourceVersion")),
        created=parse_time(metadata.get("creationTimestamp")),
        is_being_deleted=bool(metadata.get("deletionTimestamp")),
        labels=texts(metadata.get("labels")),
    )


def read_job(raw: Mapping[str, Any]) -> ObservedJob:
    """A Job."""
    metadata, spec, status = (mapping(raw.get(key)) for key in ("metadata", "spec", "status"))
    owner = controller(metadata)
    conditions = conditions_by_type(status)
    end = next((kind for kind in ("Complete", "Failed") if is_true(conditions.get(kind))), "")
    why = mapping(conditions.get(end))
    is_suspended = spec.get("suspend") is True
    annotations = mapping(metadata.get("annotations"))
    return ObservedJob(
        name=text(metadata.get("name")),
        uid=text(metadata.get("uid")),
        owner_kind=text(owner.get("kind")),
        owner_uid=text(owner.get("uid")),
        files_uid=environment_variable(mapping(mapping(spec.get("template")).get("spec")), "RUN_UID"),
        origin=decode_origin(text(annotations.get(ORIGIN_ANNOTATION))),
        resumed_generation=count(annotations.get(RESUMED_ANNOTATION)),
        suspended_by=_manager_of_suspend(metadata) if is_suspended else "",
        is_being_deleted=bool(metadata.get("deletionTimestamp")),
        is_finishing=any(is_true(conditions.get(kind)) for kind in ("FailureTarget", "SuccessCriteriaMet")),
        is_suspended=is_suspended,
        has_settled=is_true(conditions.get("Suspended")) == is_suspended,
        active=count(status.get("active")),
        failed=count(status.get("failed")),
        failures_before=count(annotations.get(FAILURES_BEFORE_ANNOTATION)),
        end=end,
        end_reason=text(why.get("reason")),
        end_message=text(why.get("message")),
        ended=parse_time(status.get("completionTime")) or parse_time(why.get("lastTransitionTime")),
        created=parse_time(metadata.get("creationTimestamp")),
        started=parse_time(status.get("startTime")),
        queue=text(mapping(metadata.get("labels")).get(QUEUE_LABEL)),
    )


def _manager_of_suspend(metadata: Mapping[str, Any]) -> str:
    """The field manager of a Job's ``spec.suspend`` that has changed it last."""
    managers = [
        (text(each.get("time")), text(each.get("manager")))
        for each in sequence(metadata.get("managedFields"))
        if "f:suspend" in mapping(mapping(each.get("fieldsV1")).get("f:spec"))
    ]
    return max(managers, default=("", ""))[1]


def _read_spec(raw: object) -> tuple[TrainingRunSpec | None, str, bool]:
    """The spec, its problem, and whether that is one of a field that can be changed after the run is created."""
    try:
        spec = spec_from_json(raw)
    except InvalidRun as error:
        return None, str(error), False
    try:
        validate_spec(spec)
    except InvalidRun as error:
        changeable = any(re.split(r"[.\[]", each.field)[0] in CHANGEABLE_FIELDS for each in error.errors)
        return spec, "; ".join(map(_problem, error.errors)), changeable
    return spec, "", False


def _problem(error: FieldError) -> str:
    path = "spec" if error.field == "request" else resource_path(error.field)
    return f"{path}: {rule_in_resource_words(error.rule)}"


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

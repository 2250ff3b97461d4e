"""TrainingRun resources: reading and writing them through the Kubernetes API.

Owns their paths, and what a refused start means. Must not know the cache or who asks.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, fields, replace
from typing import Any

import structlog
from aisandbox_crds import (
    API_VERSION,
    GROUP,
    KIND,
    REPORTED,
    VERSION,
    ConditionType,
    FieldError,
    InvalidRun,
    TrainingRun,
    TrainingRunStatus,
    run_from_json,
    spec_to_json,
    status_to_json,
)
from aisandbox_kubernetes import Client, Denied, Json, NotFound

from aisandbox_api.errors import ApiError, BackendUnavailable, ClusterRefused, InvalidRequest, LimitReached, RunUnknown
from aisandbox_api.kubernetes.call_errors import api_errors
from aisandbox_api.placement import named_by_clients

log = structlog.get_logger()

PLURAL = "trainingruns"
API_MANAGER = "aisandbox-api"
"""The field manager of what a client's call writes, and the service's name to the API server."""
PROGRESS_MANAGER = "aisandbox-progress"
_POLICY = re.compile(r"denied request: spec\.([^:\s]+): (.+)", re.DOTALL)
"""What the policies of deploy/ say: a field and its rule."""


@dataclass(frozen=True, slots=True)
class UnreadableRun:
    """A TrainingRun that this version of the service cannot read; ``why`` is for people."""

    name: str
    resource_version: str
    why: str


@dataclass(frozen=True, slots=True)
class RunList:
    """Every run as of the version ``version``."""

    runs: tuple[TrainingRun | UnreadableRun, ...]
    version: str


@dataclass(frozen=True, slots=True)
class RunEvent:
    """A run has been added, modified or deleted (``is_deleted``); or, without one, nothing up to ``version``."""

    version: str
    run: TrainingRun | UnreadableRun | None = None
    is_deleted: bool = False


class RunResources:
    """The TrainingRuns of ``namespace``. All methods raise BackendUnavailable and ClusterRefused."""

    def __init__(self, client: Client, namespace: str) -> None:
        self._client = client
        self._path = f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{PLURAL}"

    async def list(self) -> RunList:
        """All of them, in pages. Raises ClusterRefused 410 if that takes so long that the list expires."""
        runs: list[TrainingRun | UnreadableRun] = []
        version = ""
        with api_errors():
            async for page in self._client.pages(self._path):
                runs.extend(read_items(page))
                version = str((page.get("metadata") or {}).get("resourceVersion", ""))
        return RunList(tuple(runs), version)

    async def watch(self, version: str, seconds: int) -> AsyncGenerator[RunEvent]:
        """What has changed after ``version``; see :meth:`aisandbox_kubernetes.Client.watch`."""
        with api_errors():
            async with aclosing(self._client.watch(self._path, version, seconds)) as events:
                async for event in events:
                    resource = event["object"]
                    at = str((resource.get("metadata") or {}).get("resourceVersion", ""))
                    if event["type"] == "BOOKMARK":
                        yield RunEvent(at)
                    else:
                        yield RunEvent(at, read_run(resource), event["type"] == "DELETED")

    async def get(self, name: str) -> TrainingRun | None:
        """The run, None if there is none. Raises RunUnknown if it cannot be read."""
        with api_errors():
            try:
                resource = await self._client.get(f"{self._path}/{name}")
            except NotFound:
                return None
        return _readable(resource)

    async def create(self, run: TrainingRun) -> TrainingRun:
        """The run as it is stored. Raises InvalidRequest, LimitReached; ClusterRefused 409: it exists."""
        resource = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": run.name, "annotations": dict(run.annotations)},
            "spec": spec_to_json(run.spec),
        }
        try:
            with api_errors():
                created = await self._client.create(self._path, resource)
        except ClusterRefused as error:
            if isinstance(error.__cause__, Denied):
                raise _denied_start(error) from error
            raise _refused_start(error) from error
        return _readable(created)

    async def change_spec(self, run: TrainingRun, **fields: bool) -> TrainingRun:
        """Sets fields of the spec, if the run is still as given: ClusterRefused 409 if not, 404 if it is deleted."""
        body = {"metadata": {"resourceVersion": run.resource_version, "uid": run.uid}, "spec": fields}
        with api_errors():
            changed = await self._client.merge_patch(f"{self._path}/{run.name}", body)
        return _readable(changed)

    async def write_progress(self, run: TrainingRun, status: TrainingRunStatus) -> TrainingRun:
        """Applies what the service owns of the status, if the run is still as given: ClusterRefused 409, 404."""
        body = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": run.name, "resourceVersion": run.resource_version},
            "status": progress_part(status),
        }
        with api_errors():
            written = await self._client.apply(f"{self._path}/{run.name}/status", body, PROGRESS_MANAGER)
        return _readable(written)


def progress_part(status: TrainingRunStatus) -> Json:
    """What the service writes of a status; measured numbers with six digits, because people read them in columns."""
    measured = {
        field.name: float(f"{value:.6g}")
        for field in fields(status.progress)
        if isinstance(value := getattr(status.progress, field.name), float)
    }
    reported = {name: getattr(status, name) for name in REPORTED}
    reported["progress"] = replace(status.progress, **measured)  # type: ignore[arg-type]
    saved = tuple(each for each in status.conditions if each.type is ConditionType.CHECKPOINTS_SAVED)
    own = TrainingRunStatus(conditions=saved, **reported)
    return {key: value for key, value in status_to_json(own).items() if key != "phase"}


def read_items(page: Json) -> Iterator[TrainingRun | UnreadableRun]:
    """The runs of a list; its items lack apiVersion and kind in some answers."""
    for item in page.get("items") or ():
        yield read_run({"apiVersion": API_VERSION, "kind": KIND, **item})


def read_run(resource: Json) -> TrainingRun | UnreadableRun:
    """The run of a resource; it keeps nothing of the metadata that is not in TrainingRun."""
    try:
        return run_from_json(resource)
    except InvalidRun as error:
        metadata: dict[str, Any] = resource.get("metadata") or {}
        unreadable = UnreadableRun(
            str(metadata.get("name")), str(metadata.get("resourceVersion", "")), str(error)[:500]
        )
        log.warning("resource cannot be read", run=unreadable.name, why=unreadable.why)
        return unreadable


def _readable(resource: Json) -> TrainingRun:
    run = read_run(resource)
    if isinstance(run, UnreadableRun):
        raise RunUnknown(run.name, f"this version of the service cannot read it ({run.why})")
    return run


def _denied_start(error: ClusterRefused) -> InvalidRequest:
    """A webhook or a policy of the cluster has refused the run: what it says is for whoever has asked for it."""
    found = _POLICY.search(error.message)
    return InvalidRequest([_field_error(*found.groups()) if found else FieldError("request", error.message)])


def _refused_start(error: ClusterRefused) -> ApiError:
    if error.code in (400, 422) and error.reason in ("Invalid", "BadRequest"):
        causes = [_field_error(cause.field.removeprefix("spec."), cause.rule) for cause in error.causes]
        return InvalidRequest(causes or [FieldError("request", error.message)])
    if error.code == 403 and "exceeded quota" in error.message:
        return LimitReached("ResourceQuota", f"the namespace's quota is used up: {error.message}")
    if error.code == 403 and "being terminated" in error.message:
        return BackendUnavailable(f"the namespace is being deleted: {error.message}")
    return error


def _field_error(path: str, rule: str) -> FieldError:
    """``priorityClassName`` -> ``placement.priority_class_name``, as the proto calls it."""
    names = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in path)
    return named_by_clients(FieldError(names or "request", rule))

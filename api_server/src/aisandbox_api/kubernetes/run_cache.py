"""The cache of the namespace's runs.

Owns which of two states of a run is the newer one, also after a deletion. It is filled by the watch and by the answers
to our own writes, which may overtake each other. Must not know how either is obtained, or what trainers report.

Versions of one kind of resource are numbers that grow (Kubernetes, "API concepts": resource versions are compared as
numbers since 1.35, and always were by etcd). The watch delivers changes in their order; so once it has reached a
version, a run that is older than that and not in the cache has been deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from aisandbox_crds import REQUEST_ANNOTATION, TrainingRun

from aisandbox_api.kubernetes.run_resources import RunEvent, RunList, UnreadableRun
from aisandbox_api.run_owner import owner_of

OnChange = Callable[[TrainingRun | None, TrainingRun | None], None]


class RunCache:
    """``on_change`` is called for every change as (before, after)."""

    def __init__(self, on_change: OnChange = lambda before, after: None) -> None:
        self._on_change = on_change
        self._runs: dict[str, TrainingRun] = {}
        self._requests: dict[tuple[str, str], str] = {}
        self._position = 0

    @property
    def runs(self) -> Mapping[str, TrainingRun]:
        """By name."""
        return self._runs

    def of_request(self, request_id: str, owner: str = "") -> TrainingRun | None:
        """The run that ``owner`` has started with this request_id."""
        name = self._requests.get((request_id, owner))
        return self._runs.get(name) if name is not None else None

    def put(self, run: TrainingRun) -> None:
        """Takes the answer to a read or a write of our own, unless it is older than what is known."""
        known = self._runs.get(run.name)
        if _number(run.resource_version) > (self._position if known is None else _number(known.resource_version)):
            self._set(run)

    def replace(self, listed: RunList) -> None:
        """Takes a list of all runs."""
        version = _number(listed.version)
        present = {entry.name for entry in listed.runs}
        for name, run in list(self._runs.items()):
            if name not in present and _number(run.resource_version) <= version:
                self._remove(name)
        self._take(listed.runs)
        self._position = max(self._position, version)

    def apply(self, event: RunEvent) -> None:
        """Takes an event of the watch."""
        entry, version = event.run, _number(event.version)
        if entry is not None and event.is_deleted:
            known = self._runs.get(entry.name)
            if known is not None and _number(known.resource_version) <= version:
                self._remove(entry.name)
        elif entry is not None:
            self._take([entry])
        self._position = max(self._position, version)

    def _take(self, entries: Iterable[TrainingRun | UnreadableRun]) -> None:
        for entry in entries:
            known = self._runs.get(entry.name)
            if known is not None and _number(known.resource_version) >= _number(entry.resource_version):
                continue
            if isinstance(entry, UnreadableRun):
                self._remove(entry.name)
            else:
                self._set(entry)

    def _set(self, run: TrainingRun) -> None:
        before = self._runs.get(run.name)
        if before is not None and before.uid != run.uid:  # deleted and created again
            self._remove(run.name)
            before = None
        self._runs[run.name] = run
        if request_id := run.annotations.get(REQUEST_ANNOTATION):
            self._requests[request_id, owner_of(run)] = run.name
        self._on_change(before, run)

    def _remove(self, name: str) -> None:
        run = self._runs.pop(name, None)
        if run is None:
            return
        request = (run.annotations.get(REQUEST_ANNOTATION, ""), owner_of(run))
        if self._requests.get(request) == name:
            del self._requests[request]
        self._on_change(run, None)


def _number(version: str) -> int:
    return int(version) if version.isascii() and version.isdecimal() else 0

"""The runs as clients see them, and the events that notify waiting calls of a change.

Keeps the last report of each run in memory. Must not know where the cluster's states or the reports come from.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from aisandbox_crds import TrainingRun

from aisandbox_api.kubernetes.live_progress import LiveProgress, looks_same, shown_run


class RunViews:
    """Runs by name, merged from the cluster's changes and the trainers' reports."""

    def __init__(self) -> None:
        self._cluster_runs: dict[str, TrainingRun] = {}
        self._live: dict[str, LiveProgress] = {}
        self._merged: dict[str, TrainingRun] = {}
        self._changes: dict[str, asyncio.Event] = {}

    @property
    def runs(self) -> Mapping[str, TrainingRun]:
        """By name; a run that looks as before is the same object."""
        return self._merged

    def live(self, name: str) -> LiveProgress | None:
        """What was reported of the run, unless it is done or gone."""
        return self._live.get(name)

    def apply_cluster_change(self, before: TrainingRun | None, after: TrainingRun | None) -> None:
        """The cluster has another state of the run: new (``before`` None), changed, or gone (``after`` None)."""
        if after is not None:
            self._cluster_runs[after.name] = after
            if after.status.phase.is_done:
                self._live.pop(after.name, None)
            self._refresh(after.name)
        elif before is not None:
            for known in (self._cluster_runs, self._live, self._merged):
                known.pop(before.name, None)
            self._notify(before.name)

    def apply_report(self, name: str, live: LiveProgress) -> None:
        """A trainer has reported."""
        self._live[name] = live
        self._refresh(name)

    def changed(self, name: str) -> asyncio.Event:
        """An event that the next change of the run sets."""
        return self._changes.setdefault(name, asyncio.Event())

    def notify_all(self) -> None:
        """Sets every event, so that all waiting calls check their run again."""
        for name in list(self._changes):
            self._notify(name)

    def _refresh(self, name: str) -> None:
        now, before = shown_run(self._cluster_runs[name], self._live.get(name)), self._merged.get(name)
        if before is None or not looks_same(before, now):
            self._merged[name] = now
            self._notify(name)

    def _notify(self, name: str) -> None:
        if (event := self._changes.pop(name, None)) is not None:
            event.set()

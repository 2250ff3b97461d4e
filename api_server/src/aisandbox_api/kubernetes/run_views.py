"""The runs as clients see them, and the events that wake those who wait for a change of one.

Keeps the last report of each run in memory. Must not know where the cluster's states or the reports come from.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from aisandbox_crds.trainingrun import TrainingRun

from aisandbox_api.kubernetes.live_progress import LiveProgress, looks_same, shown_run


class RunViews:
    """Runs by name, merged from the cluster's changes and the trainers' reports."""

    def __init__(self) -> None:
        self._runs: dict[str, TrainingRun] = {}
        self._live: dict[str, LiveProgress] = {}
        self._views: dict[str, TrainingRun] = {}
        self._changes: dict[str, asyncio.Event] = {}

    @property
    def views(self) -> Mapping[str, TrainingRun]:
        """By name; a run that looks as before is the same object."""
        return self._views

    def live(self, name: str) -> LiveProgress | None:
        """What was reported of the run, unless it is done or gone."""
        return self._live.get(name)

    def apply_cluster_change(self, before: TrainingRun | None, after: TrainingRun | None) -> None:
        """The cluster has another state of the run: new (``before`` None), changed, or gone (``after`` None)."""
        if after is not None:
            self._runs[after.name] = after
            if after.status.phase.is_done:
                self._live.pop(after.name, None)
            self._refresh(after.name)
        elif before is not None:
            for known in (self._runs, self._live, self._views):
                known.pop(before.name, None)
            self._wake(before.name)

    def apply_report(self, name: str, live: LiveProgress) -> None:
        """A trainer has reported."""
        self._live[name] = live
        self._refresh(name)

    def changed(self, name: str) -> asyncio.Event:
        """An event that the next change of the run sets."""
        return self._changes.setdefault(name, asyncio.Event())

    def wake_all(self) -> None:
        """Wakes everything that waits, to check its run again."""
        for name in list(self._changes):
            self._wake(name)

    def _refresh(self, name: str) -> None:
        now, before = shown_run(self._runs[name], self._live.get(name)), self._views.get(name)
        if before is None or not looks_same(before, now):
            self._views[name] = now
            self._wake(name)

    def _wake(self, name: str) -> None:
        if (event := self._changes.pop(name, None)) is not None:
            event.set()

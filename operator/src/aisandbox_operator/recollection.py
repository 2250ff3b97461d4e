"""What the watches have shown that nobody can read any more, or that tells whether they still show anything.

Owns the last words of trainers whose pods are gone, and which version of each object was seen last. All of it is lost
with the process, so nothing may depend on it; but what it has of a trainer's end can never become wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aisandbox_crds.trainer_exit import TerminationMessage

from aisandbox_operator.views import PodView

PATIENCE_SECONDS = 60.0
"""For a watch to show what a list has; resyncs may be a second apart, and kopf may have a crowd to go through."""


class Recollection:
    """For one event loop."""

    def __init__(self) -> None:
        self._endings: dict[str, TerminationMessage] = {}
        self._versions: dict[str, str] = {}
        self._missed: dict[str, tuple[str, float]] = {}
        self.silent_watches: frozenset[str] = frozenset()
        """The kinds of objects whose watch has missed a change for too long."""

    def hear(self, pod: PodView) -> None:
        """Keeps what the trainer of the pod has said at its end."""
        if pod.ending is None or not pod.run_uid:
            return
        known = self._endings.get(pod.run_uid)
        if known is None or pod.ending.attempt >= known.attempt:
            self._endings[pod.run_uid] = pod.ending

    def endings(self, run_uid: str) -> tuple[TerminationMessage, ...]:
        """The last words of the run's newest trainer."""
        known = self._endings.get(run_uid)
        return () if known is None else (known,)

    def forget_runs(self, uids: set[str]) -> None:
        """Keeps what belongs to these runs only."""
        self._endings = {uid: ending for uid, ending in self._endings.items() if uid in uids}

    def see(self, kind: str, raw: Mapping[str, Any], *, is_gone: bool = False) -> None:
        """A watch has shown an object, or its deletion."""
        metadata = raw.get("metadata") or {}
        key = f"{kind}/{metadata.get('uid', '')}"
        if is_gone:
            self._versions.pop(key, None)
        else:
            self._versions[key] = str(metadata.get("resourceVersion", ""))

    def compare(self, listed: Mapping[str, list[dict[str, Any]]], now: float) -> None:
        """Finds watches that miss changes: of an object that is not as it was seen last, something must be shown soon.

        ``now``: monotonic seconds.
        """
        versions = {
            f"{kind}/{metadata.get('uid', '')}": str(metadata.get("resourceVersion", ""))
            for kind, items in listed.items()
            for metadata in (item.get("metadata") or {} for item in items)
        }
        missed = {}
        for key, version in versions.items():
            seen = self._versions.get(key, "")
            if seen != version:
                before, since = self._missed.get(key, (seen, now))
                missed[key] = seen, since if before == seen else now
        late = (key for key, (_, since) in missed.items() if now - since >= PATIENCE_SECONDS)
        self.silent_watches = frozenset(key.split("/", 1)[0] for key in late)
        self._missed = missed
        self._versions = {key: version for key, version in self._versions.items() if key in versions}

"""What the watches have delivered: termination messages of trainers, and the last version of each object.

A termination message is kept because its pod may be deleted before anything reads it; the versions show whether a watch
still delivers changes. All of it is lost with the process, so nothing may depend on it; but how a trainer ended never
changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aisandbox_crds import TerminationMessage

from aisandbox_operator.observed_objects import ObservedPod

SILENCE_SECONDS = 60.0
"""How long a watch may take to deliver what a list has: kopf may have a long queue, and resyncs may be frequent."""


class WatchCache:
    """For one event loop."""

    def __init__(self) -> None:
        self._messages: dict[str, TerminationMessage] = {}
        self._versions: dict[str, str] = {}
        self._missed: dict[str, tuple[str, float]] = {}
        self.silent_watches: frozenset[str] = frozenset()
        """The kinds of objects whose watch has missed a change for SILENCE_SECONDS."""

    def record_termination(self, pod: ObservedPod) -> None:
        """Keeps the termination message of the pod's trainer, if it has one and it is the newest of its run."""
        if pod.termination_message is None or not pod.files_uid:
            return
        known = self._messages.get(pod.files_uid)
        if known is None or pod.termination_message.attempt >= known.attempt:
            self._messages[pod.files_uid] = pod.termination_message

    def termination_messages(self, files_uid: str) -> tuple[TerminationMessage, ...]:
        """The termination message of the run's newest trainer that has one."""
        known = self._messages.get(files_uid)
        return () if known is None else (known,)

    def retain_runs(self, uids: set[str]) -> None:
        """Drops what belongs to other runs."""
        self._messages = {uid: message for uid, message in self._messages.items() if uid in uids}

    def record_event(self, kind: str, raw: Mapping[str, Any], *, is_deleted: bool = False) -> None:
        """A watch has delivered an object, or its deletion."""
        metadata = raw.get("metadata") or {}
        key = f"{kind}/{metadata.get('uid', '')}"
        if is_deleted:
            self._versions.pop(key, None)
        else:
            self._versions[key] = str(metadata.get("resourceVersion", ""))

    def compare_with_list(self, listed: Mapping[str, list[dict[str, Any]]], now: float) -> None:
        """Finds watches that miss changes: an object with another version than the last one must be delivered soon.

        ``now``: monotonic seconds.
        """
        versions = {
            f"{kind}/{metadata.get('uid', '')}": str(metadata.get("resourceVersion", ""))
            for kind, items in listed.items()
            for metadata in (item.get("metadata") or {} for item in items)
        }
        missed = {}
        for key, version in versions.items():
            delivered = self._versions.get(key, "")
            if delivered != version:
                before, since = self._missed.get(key, (delivered, now))
                missed[key] = delivered, since if before == delivered else now
        late = (key for key, (_, since) in missed.items() if now - since >= SILENCE_SECONDS)
        self.silent_watches = frozenset(key.split("/", 1)[0] for key in late)
        self._missed = missed
        self._versions = {key: version for key, version in self._versions.items() if key in versions}

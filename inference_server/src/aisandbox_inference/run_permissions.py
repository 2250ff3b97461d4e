"""Who may use the policies of a run, where callers are authenticated.

Owns what a run's owner is known from: the record of the run that a service on one machine keeps beside its models. The
cluster decides by the run's name, and needs none. Must not know the calls.
"""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from aisandbox_access import (
    ANONYMOUS,
    METHODS,
    OWNER_ANNOTATION,
    AccessError,
    Caller,
    Permission,
    Target,
    ThreadAccessControl,
)
from aisandbox_model_store import LARGEST_RECORD, Damaged, InvalidRunId, RunStore, read_regular
from aisandbox_process.coroutines import FutureCoroutine

KEPT_SECONDS = 60.0
"""How long a run's owner is kept."""
_CACHE_SIZE = 16_384


@dataclass(frozen=True, slots=True)
class CallOfPeer:
    """A call that was admitted, and where it came from."""

    caller: Caller
    permission: Permission
    peer: Callable[[], str]


class RunPermissions:
    """For any threads. ``service``: the full name of the one whose methods are called."""

    def __init__(
        self,
        access_control: ThreadAccessControl,
        store: RunStore,
        service: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._access_control = access_control
        self._store = store
        self._service = service
        self._clock = clock
        self._lock = threading.Lock()
        self._owners: OrderedDict[str, tuple[float, str | None]] = OrderedDict()

    def admit(self, name: str, metadata: Any, peer: Callable[[], str]) -> FutureCoroutine[CallOfPeer]:
        """See Methods.admit. Raises AccessError."""
        method = f"/{self._service}/{name}"
        try:
            caller = yield from self._access_control.admit(method, metadata)
        except AccessError as error:
            self._access_control.inner.record_refusal(error, Caller(method), peer())
            raise
        return CallOfPeer(caller, METHODS[method].permission or Permission.ADMINISTER, peer)

    def stream(self, peer: str, call: CallOfPeer) -> AbstractContextManager[None]:
        """See Methods.stream. An administrator's do not count: those of all clients of an api-server come from it.

        Raises LimitReached.
        """
        if self._access_control.inner.may_now(call.caller, Permission.ADMINISTER):
            return nullcontext()
        return self._access_control.inner.streams.stream(peer)

    def check(self, call: CallOfPeer, run_id: str) -> FutureCoroutine[None]:
        """Returns if the caller may do it with the run. Raises AccessError."""
        yield from self._access_control.check(
            call.caller, call.permission, Target(run_id, self._owner(run_id)), call.peer
        )

    def may_act(self, metadata: Any, run_id: str, peer: str) -> FutureCoroutine[None]:
        """Returns if a call with that metadata might act with the run. Raises AccessError."""
        call = yield from self.admit("Act", metadata, lambda: peer)
        yield from self.check(call, run_id)

    def _owner(self, run_id: str) -> str | None:
        """See Target.owner."""
        now = self._clock()
        with self._lock:
            known = self._owners.get(run_id)
        if known is not None and known[0] > now:
            return known[1]
        owner = read_owner(self._store, run_id)
        with self._lock:
            self._owners[run_id] = (now + KEPT_SECONDS, owner)
            if len(self._owners) > _CACHE_SIZE:
                self._owners.popitem(last=False)
        return owner


def read_owner(store: RunStore, run_id: str) -> str | None:
    """The owner in the record of a run; ANONYMOUS if it has none, None without a record that can be read."""
    try:
        record = json.loads(read_regular(store.run(run_id).record_path, LARGEST_RECORD))
        annotations = record["metadata"].get("annotations") or {}
        return str(annotations.get(OWNER_ANNOTATION, ANONYMOUS))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, Damaged, InvalidRunId):
        return None

"""Which policy answers for a run and a selector, and when the disk is checked for a newer model.

Owns freshness. Files are only read in threads. Must not know requests.

An answer comes from the model that the selector named at most REFRESH_SECONDS (plus one load) ago. While calls keep
coming they are answered by the loaded policy, and the disk is checked in the background. The first call after
IDLE_SECONDS without one waits for that check, so that a call after the end of a training gets the last model. If a
newer model cannot be loaded, the older one still answers, unless the run was deleted and another run of the same name
has its folder.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias

import structlog
from aisandbox_model_store import ModelNotFound, Published, RunFolder, RunNotFound, RunStore, parse_selector
from aisandbox_process.coroutines import FutureCoroutine, run_with_callbacks, running_future, wait_for

from aisandbox_inference.loaded_models import Build, LoadedModels
from aisandbox_inference.metrics import Metrics
from aisandbox_inference.policy import Policy

log = structlog.get_logger(__name__)

REFRESH_SECONDS = 0.2
IDLE_SECONDS = 1.0
_RESOLVE_ATTEMPTS = 5
_MAX_ENTRIES = 10_000
_THREADS = 2
"""Not those that load, so that a model that takes long to load does not delay the checks of others."""

_Key: TypeAlias = tuple[str, str]
"""A run and a selector."""


@dataclass(slots=True)
class _Entry:
    """The model that a selector of a run named when it was last checked.

    ``uid`` is the uid of that run, ``error`` why a newer model is not served.
    """

    digest: str
    uid: str
    checked_at: float
    error: str = ""


class ModelCache:
    """Policies by run and selector, loaded when they are first needed. For any threads."""

    def __init__(
        self,
        store: RunStore,
        build: Build,
        limit: int,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._clock = clock
        self._models = LoadedModels(build, limit, metrics, clock)
        self._entries: dict[_Key, _Entry] = {}
        self._refreshes: dict[_Key, Future[Policy]] = {}
        self._lock = threading.RLock()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="model-resolver")

    def close(self) -> None:
        """Stop checking and loading; policies that are in use still answer."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._models.close()

    def cached(self, run_id: str, selector: str) -> Policy | None:
        """Return the policy if it is fresh enough to answer without a wait, else None.

        The path of nearly every call: a microsecond, no I/O. Starts a refresh if one is due.
        """
        entry = self._entries.get((run_id, selector or "latest"))
        if entry is None:
            return None
        age = self._clock() - entry.checked_at
        if age >= REFRESH_SECONDS:
            if age >= IDLE_SECONDS:
                return None
            self._start_refresh(run_id, selector)
        return self._models.get(run_id, entry.digest)

    def policy(self, run_id: str, selector: str) -> FutureCoroutine[Policy]:
        """Return the policy that ``selector`` names, loading it if necessary.

        Raises InvalidRunId, InvalidSelector, RunNotFound, ModelNotFound, Damaged, UnusableModel, ModelTooLarge,
        OSError.
        """
        policy = self.cached(run_id, selector)
        if policy is not None:
            return policy
        return (yield from wait_for(self._start_refresh(run_id, selector)))

    def _start_refresh(self, run_id: str, selector: str) -> Future[Policy]:
        """Check the disk, once for all callers that wait."""
        selector = selector or "latest"  # one entry for both: they must never give different answers
        key = (run_id, selector)
        with self._lock:
            if (refresh := self._refreshes.get(key)) is not None:
                return refresh
            run = self._store.run(run_id)
            parse_selector(selector)
            refresh = self._refreshes[key] = running_future()
        run_with_callbacks(self._refresh_once(key, run), refresh)
        return refresh

    def _refresh_once(self, key: _Key, run: RunFolder) -> FutureCoroutine[Policy]:
        try:
            return (yield from self._refresh(key, run))
        finally:
            with self._lock:
                del self._refreshes[key]

    def _refresh(self, key: _Key, run: RunFolder) -> FutureCoroutine[Policy]:
        """Return the policy that the selector names now, or on an error the one it named before."""
        try:
            uid = yield from wait_for(self._threads.submit(run.uid))
            self._drop_other_runs(run.run_id, uid)
            policy = yield from self._newest(key, run)
        except RunNotFound:
            with self._lock:
                self._entries.pop(key, None)
            raise
        except Exception as error:
            older = self._older(key, error)
            if older is None:
                raise
            return older
        with self._lock:
            if len(self._entries) >= _MAX_ENTRIES:
                self._drop_entries_of_evicted_models()
            self._entries[key] = _Entry(policy.digest, uid, self._clock())
        return policy

    def _older(self, key: _Key, error: Exception) -> Policy | None:
        """Return the policy that still answers after a refresh has failed with ``error``."""
        entry = self._entries.get(key)
        policy = self._models.get(key[0], entry.digest) if entry is not None else None
        if entry is None or policy is None:
            return None
        if str(error) != entry.error:
            log.warning("newer model not served", run=key[0], selector=key[1], error=str(error), serving=policy.digest)
        entry.checked_at, entry.error = self._clock(), str(error)
        return policy

    def _drop_other_runs(self, run_id: str, uid: str) -> None:
        """Drop the entries of an earlier run of the same name."""
        with self._lock:
            others = [key for key, entry in self._entries.items() if key[0] == run_id and entry.uid != uid]
            for key in others:
                del self._entries[key]
        if others:
            log.info("run was replaced by a newer run of its name", run=run_id)

    def _drop_entries_of_evicted_models(self) -> None:
        self._entries = {
            key: entry for key, entry in self._entries.items() if self._models.is_loaded(key[0], entry.digest)
        }

    def _newest(self, key: _Key, run: RunFolder) -> FutureCoroutine[Policy]:
        """Resolve and load; tries again if the model was replaced and removed in between."""
        selector = key[1]
        entry = self._entries.get(key)
        loaded = self._models.get(run.run_id, entry.digest) if entry is not None else None
        for attempt in range(_RESOLVE_ATTEMPTS):
            known = loaded.digest if loaded is not None else ""
            published = yield from wait_for(self._threads.submit(_resolve, run, selector, known))
            if published is None and loaded is not None:
                return loaded
            if published is not None:
                try:
                    return (yield from self._models.load(run, published))
                except ModelNotFound:
                    if attempt == _RESOLVE_ATTEMPTS - 1:
                        raise
        raise ModelNotFound(run.run_id, selector, "it is being replaced")


def _resolve(run: RunFolder, selector: str, known: str) -> Published | None:
    """Return what ``selector`` names, or None if it still is the model ``known``: then only a pointer is read."""
    parsed = parse_selector(selector)
    if known and parsed.digest:
        return None  # a digest always names the same model
    if known and parsed.pointer:
        pointer = run.pointer(parsed.pointer)
        if pointer is not None and pointer.digest == known:
            return None
    published = run.model(selector)
    return None if published.digest == known else published

"""The models in memory: each is loaded once, and the least recently used ones are dropped above a limit.

Owns single loading, the pause after a failed load and the memory limit. Files are read in threads of its own. Must not
know selectors.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias

import structlog
from aisandbox_model_store import Bundle, Damaged, Published, RunFolder
from aisandbox_model_store.served_model import POLICY_FILE
from aisandbox_process.coroutines import FutureCoroutine, run_with_callbacks, running_future, wait_for

from aisandbox_inference.errors import InferenceError, ModelTooLarge, UnusableModel
from aisandbox_inference.metrics import Metrics
from aisandbox_inference.policy import Policy, memory_needed

log = structlog.get_logger(__name__)

RETRY_SECONDS = 5.0
LARGEST_DESCRIPTION = 64 * 1024 * 1024
"""Bytes of a model's metadata and golden examples."""
_MAX_FAILURES = 1000
_THREADS = 2

Build: TypeAlias = Callable[[str, Bundle], Policy]
"""Makes the policy of a run from the verified bytes of its files."""
_Key: TypeAlias = tuple[str, str]
"""A run and the digest of a model."""


@dataclass(frozen=True, slots=True)
class _Failure:
    error: Exception
    retry_at: float


class LoadedModels:
    """Policies by run and digest, together at most ``limit`` bytes. For any threads."""

    def __init__(self, build: Build, limit: int, metrics: Metrics, clock: Callable[[], float] = time.monotonic) -> None:
        self._build = build
        self._limit = limit
        self._metrics = metrics
        self._clock = clock
        self._policies: OrderedDict[_Key, Policy] = OrderedDict()  # the least recently used one first
        self._bytes = 0
        self._loads: dict[_Key, Future[Policy]] = {}
        self._failures: dict[_Key, _Failure] = {}
        self._lock = threading.RLock()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="model-loader")

    def close(self) -> None:
        """Stop loading; policies that are in use still answer."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def get(self, run_id: str, digest: str) -> Policy | None:
        """Return the policy if it is loaded, and count that as a use."""
        key = (run_id, digest)
        with self._lock:
            policy = self._policies.get(key)
            if policy is not None:
                self._policies.move_to_end(key)
            return policy

    def is_loaded(self, run_id: str, digest: str) -> bool:
        """Return whether the policy is loaded, without counting that as a use."""
        return (run_id, digest) in self._policies

    def load(self, run: RunFolder, published: Published) -> FutureCoroutine[Policy]:
        """Return the policy, loading it if necessary; all callers at a time share one load.

        For RETRY_SECONDS after a failure, raises the same error again. Raises ModelNotFound (it was removed), Damaged,
        UnusableModel, ModelTooLarge, OSError.
        """
        key = (run.run_id, published.digest)
        with self._lock:
            if (policy := self.get(*key)) is not None:
                return policy
            failure = self._failures.get(key)
            if failure is not None and self._clock() < failure.retry_at:
                raise failure.error.with_traceback(None)  # or the traceback would grow with every caller
            load = self._loads.get(key)
            is_first = load is None
            if load is None:
                load = self._loads[key] = running_future()
        if is_first:
            run_with_callbacks(self._load(key, run, published), load)
        return (yield from wait_for(load))

    def _load(self, key: _Key, run: RunFolder, published: Published) -> FutureCoroutine[Policy]:
        try:
            policy = yield from wait_for(self._threads.submit(self._read_and_build, run, published))
        except (Damaged, InferenceError, OSError) as error:
            self._metrics.load_failures.inc()
            log.warning("model not loaded", run=run.run_id, model=published.digest, error=str(error))
            with self._lock:
                if len(self._failures) >= _MAX_FAILURES:
                    self._failures.clear()
                self._failures[key] = _Failure(error, self._clock() + RETRY_SECONDS)
            raise
        else:
            with self._lock:
                self._failures.pop(key, None)
                self._add(key, policy)
            log.info(
                "model loaded", run=run.run_id, model=policy.digest, timesteps=policy.timesteps, bytes=policy.memory
            )
            return policy
        finally:
            with self._lock:
                del self._loads[key]

    def _add(self, key: _Key, policy: Policy) -> None:
        self._policies[key] = policy
        self._bytes += policy.memory
        self._metrics.loads.inc()
        while self._bytes > self._limit and len(self._policies) > 1:
            (run_id, digest), evicted = self._policies.popitem(last=False)
            self._bytes -= evicted.memory
            self._metrics.evictions.inc()
            log.info("model evicted", run=run_id, model=digest)
        self._metrics.models.set(len(self._policies))
        self._metrics.model_bytes.set(self._bytes)

    def _read_and_build(self, run: RunFolder, published: Published) -> Policy:
        onnx = published.manifest.files.get(POLICY_FILE)
        needed = memory_needed(onnx.size if onnx is not None else 0)
        if needed > self._limit:
            raise ModelTooLarge(published.digest, needed, self._limit)
        others = sum(entry.size for name, entry in published.manifest.files.items() if name != POLICY_FILE)
        if others > LARGEST_DESCRIPTION:
            why = f"the files beside {POLICY_FILE} have {others:,} bytes; at most {LARGEST_DESCRIPTION:,}"
            raise UnusableModel(published.digest, why)
        bundle = run.read_model(published)
        try:
            return self._build(run.run_id, bundle)
        except InferenceError:
            raise
        except Exception as error:  # a file that breaks the loader must not end the service of older models
            raise UnusableModel(published.digest, repr(error)) from error

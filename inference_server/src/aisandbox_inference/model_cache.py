"""The loaded policies: which one answers for a run and a selector, and when to look for a newer one.

Owns freshness, single loading and the memory limit. A lock guards what changes; files are only touched in threads of
its own. Must not know requests.

An answer comes from the model that the selector named at most REFRESH_SECONDS (plus one load) ago. While calls keep
coming they are answered by the policy at hand and the look at the disk goes on beside them; a call after a silence
waits for it, so that whoever acts after training has ended meets the last model. A newer model that cannot be loaded
leaves the old one serving; only where the folder has become another run's, one that was made again under the name of a
deleted one, is nothing left of it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import structlog
from aisandbox_model_store import (
    Bundle,
    Damaged,
    ModelNotFound,
    Published,
    RunFolder,
    RunNotFound,
    RunStore,
    parse_selector,
)
from aisandbox_model_store.served_model import POLICY_FILE

from aisandbox_inference.errors import InferenceError, ModelTooLarge, UnusableModel
from aisandbox_inference.metrics import Metrics
from aisandbox_inference.policy import Policy, memory_needed
from aisandbox_inference.waiting import Work, pursue, result_of, running

log = structlog.get_logger(__name__)

REFRESH_SECONDS = 0.2
_SILENCE_SECONDS = 1.0
_RETRY_SECONDS = 5.0
_RESOLVE_TRIES = 5
_MOST_FAILURES = 1000
_LOOK_THREADS, _LOAD_THREADS = 2, 2
"""Apart, so that a model that takes long to load does not keep the others from being looked at."""
_LATEST = "latest"

Build = Callable[[str, Bundle], Policy]
_Model = tuple[str, str]
"""A run and a digest."""


@dataclass(slots=True)
class _View:
    """What a selector of a run named when it was last looked at; ``owner`` is the uid of that run."""

    policy: Policy
    owner: str
    checked_at: float
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class _Failure:
    error: Exception
    retry_at: float


class ModelCache:
    """Policies by run and selector, loaded when they are first asked for. For any threads."""

    def __init__(
        self,
        store: RunStore,
        build: Build,
        limit: int,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._build = build
        self._limit = limit
        self._metrics = metrics
        self._clock = clock
        self._views: dict[tuple[str, str], _View] = {}
        self._policies: OrderedDict[_Model, Policy] = OrderedDict()
        self._bytes = 0
        self._looks: dict[tuple[str, str], Future[Policy]] = {}
        self._loads: dict[_Model, Future[Policy]] = {}
        self._failures: dict[_Model, _Failure] = {}
        self._lock = threading.RLock()
        self._lookers = ThreadPoolExecutor(_LOOK_THREADS, thread_name_prefix="model-looker")
        self._loaders = ThreadPoolExecutor(_LOAD_THREADS, thread_name_prefix="model-loader")

    def close(self) -> None:
        """Stop looking and loading; policies that are in use go on."""
        for pool in (self._lookers, self._loaders):
            pool.shutdown(wait=False, cancel_futures=True)

    def at_hand(self, run_id: str, selector: str) -> Policy | None:
        """Return the policy if the answer needs no wait. The path of nearly every call: a microsecond, no I/O."""
        view = self._views.get((run_id, selector or _LATEST))
        if view is None:
            return None
        age = self._clock() - view.checked_at
        if age >= REFRESH_SECONDS:
            if age >= _SILENCE_SECONDS:
                return None
            self._look(run_id, selector)
        policy = view.policy
        with self._lock, contextlib.suppress(KeyError):  # dropped a moment ago to make room: it can still answer
            self._policies.move_to_end((run_id, policy.digest))
        return policy

    def policy(self, run_id: str, selector: str) -> Work[Policy]:
        """Return the policy that ``selector`` names, loading it if need be.

        Raises InvalidRunId, InvalidSelector, RunNotFound, ModelNotFound, Damaged, UnusableModel, ModelTooLarge,
        OSError.
        """
        policy = self.at_hand(run_id, selector)
        if policy is not None:
            return policy
        return (yield from result_of(self._look(run_id, selector)))

    def _look(self, run_id: str, selector: str) -> Future[Policy]:
        """Look at the disk, once for all who wait."""
        selector = selector or _LATEST  # one view for both: they must never answer differently
        key = (run_id, selector)
        with self._lock:
            if (look := self._looks.get(key)) is not None:
                return look
            run = self._store.run(run_id)
            parse_selector(selector)
            look = self._looks[key] = running()
        pursue(self._looked(key, self._refresh(run, selector)), look)
        return look

    def _looked(self, key: tuple[str, str], refresh: Work[Policy]) -> Work[Policy]:
        try:
            return (yield from refresh)
        finally:
            with self._lock:
                del self._looks[key]

    def _refresh(self, run: RunFolder, selector: str) -> Work[Policy]:
        """Return the policy that ``selector`` names now, or on trouble the one it named before."""
        key = (run.run_id, selector)
        owner = ""
        try:
            owner = yield from result_of(self._lookers.submit(run.uid))
            self._keep_only(run.run_id, owner)
            policy = yield from self._current(run, selector)
        except RunNotFound:
            with self._lock:
                self._views.pop(key, None)
            raise
        except Exception as error:
            view = self._views.get(key)
            if view is None:
                raise
            if str(error) != view.trouble:
                log.warning(
                    "newer model not served",
                    run=run.run_id,
                    selector=selector,
                    error=str(error),
                    still=view.policy.digest,
                )
            view.checked_at, view.trouble = self._clock(), str(error)
            return view.policy
        with self._lock:
            if self._policies.get((run.run_id, policy.digest)) is policy:  # else it was dropped to make room meanwhile
                self._views[key] = _View(policy, owner, self._clock())
        return policy

    def _keep_only(self, run_id: str, owner: str) -> None:
        """Drop what was a run's of the same name before this one."""
        with self._lock:
            others = [key for key, view in self._views.items() if key[0] == run_id and view.owner != owner]
            for key in others:
                del self._views[key]
        if others:
            log.info("run has been replaced by another of its name", run=run_id)

    def _current(self, run: RunFolder, selector: str) -> Work[Policy]:
        """Resolve and load, again if the model was replaced and removed in between."""
        view = self._views.get((run.run_id, selector))
        known = view.policy.digest if view is not None else ""
        for attempt in range(_RESOLVE_TRIES):
            published = yield from result_of(self._lookers.submit(_resolve, run, selector, known))
            if published is None and view is not None:
                return view.policy
            if published is not None:
                try:
                    return (yield from self._load_once(run, published))
                except ModelNotFound:
                    if attempt == _RESOLVE_TRIES - 1:
                        raise
        raise ModelNotFound(run.run_id, selector, "it is being replaced")

    def _load_once(self, run: RunFolder, published: Published) -> Work[Policy]:
        model = (run.run_id, published.digest)
        with self._lock:
            if (loaded := self._policies.get(model)) is not None:
                return loaded
            failure = self._failures.get(model)
            if failure is not None and self._clock() < failure.retry_at:
                raise failure.error.with_traceback(None)  # or the instance would gather every caller's
            load = self._loads.get(model)
            mine = load is None
            if load is None:
                load = self._loads[model] = running()
        if mine:
            pursue(self._load(run, published), load)
        return (yield from result_of(load))

    def _load(self, run: RunFolder, published: Published) -> Work[Policy]:
        model = (run.run_id, published.digest)
        try:
            policy = yield from result_of(
                self._loaders.submit(_read_and_build, run, published, self._build, self._limit)
            )
        except (Damaged, InferenceError, OSError) as error:
            self._metrics.load_failures.inc()
            log.warning("model not loaded", run=run.run_id, model=published.digest, error=str(error))
            with self._lock:
                if len(self._failures) >= _MOST_FAILURES:
                    self._failures.clear()
                self._failures[model] = _Failure(error, self._clock() + _RETRY_SECONDS)
            raise
        else:
            with self._lock:
                self._failures.pop(model, None)
                self._install(model, policy)
            log.info(
                "model loaded", run=run.run_id, model=policy.digest, timesteps=policy.timesteps, bytes=policy.memory
            )
            return policy
        finally:
            with self._lock:
                del self._loads[model]

    def _install(self, model: _Model, policy: Policy) -> None:
        self._policies[model] = policy
        self._bytes += policy.memory
        self._metrics.loads.inc()
        while self._bytes > self._limit and len(self._policies) > 1:
            oldest, dropped = self._policies.popitem(last=False)
            self._bytes -= dropped.memory
            self._views = {key: view for key, view in self._views.items() if view.policy is not dropped}
            self._metrics.evictions.inc()
            log.info("model dropped to make room", run=oldest[0], model=oldest[1])
        self._metrics.models.set(len(self._policies))
        self._metrics.model_bytes.set(self._bytes)


def _resolve(run: RunFolder, selector: str, known: str) -> Published | None:
    """Return what ``selector`` names, or None if it is still the model ``known``; reads a pointer of 150 bytes then."""
    parsed = parse_selector(selector)
    if known and parsed.digest:
        return None  # a digest always names the same model
    if known and parsed.pointer:
        pointer = run.pointer(parsed.pointer)
        if pointer is not None and pointer.digest == known:
            return None
    published = run.model(selector)
    return None if published.digest == known else published


def _read_and_build(run: RunFolder, published: Published, build: Build, limit: int) -> Policy:
    onnx = published.manifest.files.get(POLICY_FILE)
    needed = memory_needed(onnx.size if onnx is not None else 0)
    if needed > limit:
        raise ModelTooLarge(published.digest, needed, limit)
    bundle = run.read_model(published)
    try:
        return build(run.run_id, bundle)
    except InferenceError:
        raise
    except Exception as error:  # a file that nobody foresaw is a reason to keep the old model, not to fail
        raise UnusableModel(published.digest, repr(error)) from error

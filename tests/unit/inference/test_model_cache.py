"""Freshness, single loading and the memory limit, with a clock of the test's own."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import numpy as np
import pytest
from aisandbox_inference.errors import ModelTooLarge, UnusableModel
from aisandbox_inference.metrics import Metrics
from aisandbox_inference.model_cache import REFRESH_SECONDS, ModelCache
from aisandbox_inference.policy import Policy
from aisandbox_model_store import (
    Bundle,
    Damaged,
    InvalidRunId,
    InvalidSelector,
    ModelNotFound,
    Published,
    RunNotFound,
    RunStore,
)
from aisandbox_process.coroutines import FutureCoroutine, run_blocking, run_with_callbacks, running_future
from onnx_policies import LinearPolicy
from prometheus_client import CollectorRegistry
from waiting import wait_until

Publish = Callable[..., Published]
ONE = LinearPolicy(seed=1)
TWO = LinearPolicy(seed=2)
BAD = {"golden.json": LinearPolicy(seed=3).golden()}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Builder:
    """Builds policies, counts them, and can be held up."""

    def __init__(self) -> None:
        self.built: list[str] = []
        self.may_go = threading.Event()
        self.may_go.set()

    def __call__(self, run_id: str, bundle: Bundle) -> Policy:
        self.built.append(f"{run_id}/{bundle.published.timesteps}")
        assert self.may_go.wait(30)
        return Policy(run_id, bundle, np.random.default_rng(0))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def builder() -> Builder:
    return Builder()


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def cache(store: RunStore, clock: Clock, builder: Builder, registry: CollectorRegistry) -> Iterator[ModelCache]:
    cache = ModelCache(store, builder, 10 << 20, Metrics(registry), clock)
    yield cache
    builder.may_go.set()
    cache.close()


def start(coroutine: FutureCoroutine[Policy]) -> Future[Policy]:
    outcome = running_future()
    run_with_callbacks(coroutine, outcome)
    return outcome


def test_first_call_loads_and_the_next_needs_no_wait(cache: ModelCache, publish: Publish, builder: Builder) -> None:
    published = publish(ONE)
    assert cache.cached("r", "") is None
    policy = run_blocking(cache.policy("r", ""))
    assert policy.digest == published.digest
    assert cache.cached("r", "") is policy
    assert builder.built == ["r/100"]


def test_empty_selector_and_latest_share_an_entry(cache: ModelCache, publish: Publish, builder: Builder) -> None:
    publish(ONE)
    policy = run_blocking(cache.policy("r", ""))
    assert cache.cached("r", "latest") is policy


def test_many_first_calls_load_once(cache: ModelCache, publish: Publish, builder: Builder) -> None:
    published = publish(ONE, point=("latest", "best"))
    builder.may_go.clear()
    selectors = ["", "latest", "best", "step:100", published.digest] * 10
    calls = [start(cache.policy("r", selector)) for selector in selectors]
    wait_until(lambda: bool(builder.built), every=0.001)
    builder.may_go.set()
    policies = [call.result(30) for call in calls]
    assert {id(policy) for policy in policies} == {id(policies[0])}
    assert builder.built == ["r/100"]


def test_cancelled_caller_does_not_end_the_load_of_others(
    cache: ModelCache, publish: Publish, builder: Builder
) -> None:
    publish(ONE)
    builder.may_go.clear()
    first, second = (cache.policy("r", "") for _ in range(2))
    assert not next(first).cancel()
    first.close()
    call = start(second)
    wait_until(lambda: bool(builder.built), every=0.001)
    builder.may_go.set()
    assert call.result(30).timesteps == 100


def test_slow_load_does_not_delay_other_models(
    cache: ModelCache, publish: Publish, clock: Clock, builder: Builder
) -> None:
    publish(ONE, run="quick")
    run_blocking(cache.policy("quick", ""))
    builder.may_go.clear()
    for run in "abcd":
        publish(ONE, run=run)
    calls = [start(cache.policy(run, "")) for run in "abcd"]
    wait_until(lambda: len(builder.built) == 3, every=0.001)
    clock.now += 60
    assert start(cache.policy("quick", "")).result(30).run_id == "quick"
    assert not any(call.done() for call in calls)
    builder.may_go.set()
    assert [call.result(30).run_id for call in calls] == list("abcd")


def test_newer_model_is_loaded_in_the_background(
    cache: ModelCache, publish: Publish, clock: Clock, builder: Builder
) -> None:
    publish(ONE, step=100)
    old = run_blocking(cache.policy("r", ""))
    newer = publish(TWO, step=200)
    builder.may_go.clear()
    assert cache.cached("r", "") is old, "within the interval nothing is checked"
    clock.now += REFRESH_SECONDS
    assert cache.cached("r", "") is old, "and then the call does not wait"
    wait_until(lambda: builder.built == ["r/100", "r/200"], every=0.001)
    clock.now += 0.1
    assert cache.cached("r", "") is old, "nor for the load"
    builder.may_go.set()
    wait_until(lambda: cache.cached("r", "") is not old, every=0.001)
    policy = cache.cached("r", "")
    assert policy is not None
    assert policy.digest == newer.digest


def test_first_call_after_an_idle_time_gets_the_newest_model(cache: ModelCache, publish: Publish, clock: Clock) -> None:
    publish(ONE, step=100)
    run_blocking(cache.policy("r", ""))
    newer = publish(TWO, step=200)
    clock.now += 60
    assert cache.cached("r", "") is None
    assert run_blocking(cache.policy("r", "")).digest == newer.digest


def test_step_published_again_is_found(cache: ModelCache, publish: Publish, clock: Clock) -> None:
    publish(ONE, step=100)
    run_blocking(cache.policy("r", "step:100"))
    again = publish(TWO, step=100)
    clock.now += 60
    assert run_blocking(cache.policy("r", "step:100")).digest == again.digest


@pytest.mark.parametrize("damage", ["golden", "bytes", "pointer", "removed"])
def test_newer_model_that_fails_to_load_leaves_the_old_one_serving(
    cache: ModelCache, publish: Publish, clock: Clock, store: RunStore, registry: CollectorRegistry, damage: str
) -> None:
    publish(ONE, step=100)
    old = run_blocking(cache.policy("r", ""))
    newer = publish(TWO, step=200, files=BAD if damage == "golden" else None)
    if damage == "bytes":
        (newer.path / "policy.onnx").write_bytes(TWO.onnx()[:-1] + b"?")
    elif damage == "pointer":
        (store.run("r").models_path / "latest").write_bytes(b"?")
    elif damage == "removed":
        shutil.rmtree(newer.path)
    for _ in range(3):
        clock.now += 60
        assert run_blocking(cache.policy("r", "")) is old
    failures = registry.get_sample_value("aisandbox_inference_model_load_failures_total")
    assert failures == (3 if damage in ("golden", "bytes") else 0)

    repaired = publish(LinearPolicy(seed=9), step=300)
    clock.now += 60
    assert run_blocking(cache.policy("r", "")).digest == repaired.digest


def test_model_that_fails_is_not_built_again_for_every_call(
    cache: ModelCache, publish: Publish, clock: Clock, builder: Builder
) -> None:
    publish(ONE, files=BAD)
    for _ in range(3):
        with pytest.raises(UnusableModel):
            run_blocking(cache.policy("r", ""))
    assert builder.built == ["r/100"]
    clock.now += 60
    with pytest.raises(UnusableModel):
        run_blocking(cache.policy("r", ""))
    assert builder.built == ["r/100", "r/100"]


def test_damaged_first_model_is_an_error(cache: ModelCache, publish: Publish) -> None:
    published = publish(ONE)
    (published.path / "golden.json").unlink()
    with pytest.raises(Damaged, match=r"golden\.json is missing"):
        run_blocking(cache.policy("r", ""))


def test_missing_runs_and_models_are_errors_until_they_exist(
    cache: ModelCache, publish: Publish, store: RunStore
) -> None:
    with pytest.raises(RunNotFound):
        run_blocking(cache.policy("r", ""))
    store.run("r").claim(1)
    with pytest.raises(ModelNotFound):
        run_blocking(cache.policy("r", ""))
    publish(ONE)
    assert run_blocking(cache.policy("r", "")).timesteps == 100


@pytest.mark.parametrize(("run", "selector", "error"), [("../x", "", InvalidRunId), ("r", "newest", InvalidSelector)])
def test_invalid_names_are_refused_without_reading_the_disk(
    cache: ModelCache, run: str, selector: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        run_blocking(cache.policy(run, selector))


def test_run_that_is_removed_stops_being_served(
    cache: ModelCache, publish: Publish, clock: Clock, store: RunStore
) -> None:
    publish(ONE)
    run_blocking(cache.policy("r", ""))
    shutil.rmtree(store.run("r").path)
    clock.now += 60
    with pytest.raises(RunNotFound):
        run_blocking(cache.policy("r", ""))


def test_least_recently_used_models_are_evicted(
    store: RunStore, publish: Publish, clock: Clock, builder: Builder, registry: CollectorRegistry
) -> None:
    big = LinearPolicy(padding=1 << 20)
    for run in "abc":
        publish(big, run=run)
    cache = ModelCache(store, builder, int(2.5 * 3.3 * (1 << 20)), Metrics(registry), clock)
    for run in ("a", "b", "a", "c", "a"):
        run_blocking(cache.policy(run, ""))
    assert builder.built == ["a/100", "b/100", "c/100"]
    assert cache.cached("b", "") is None
    assert registry.get_sample_value("aisandbox_inference_models") == 2
    assert (registry.get_sample_value("aisandbox_inference_model_bytes") or 0) < 2.5 * 3.3 * (1 << 20)
    run_blocking(cache.policy("b", ""))
    assert builder.built[-1] == "b/100"
    assert cache.cached("c", "") is None
    cache.close()


def test_model_over_the_limit_is_refused_and_evicts_nothing(
    store: RunStore, publish: Publish, clock: Clock, builder: Builder, registry: CollectorRegistry
) -> None:
    publish(ONE, run="small")
    publish(LinearPolicy(padding=1 << 20), run="big")
    cache = ModelCache(store, builder, 1 << 20, Metrics(registry), clock)
    small = run_blocking(cache.policy("small", ""))
    with pytest.raises(ModelTooLarge, match="MODEL_CACHE_BYTES"):
        run_blocking(cache.policy("big", ""))
    assert cache.cached("small", "") is small
    assert builder.built == ["small/100"]
    cache.close()


def test_model_evicted_during_its_refresh_is_loaded_again(
    store: RunStore, publish: Publish, clock: Clock, builder: Builder, registry: CollectorRegistry
) -> None:
    for run in "ab":
        publish(LinearPolicy(padding=1 << 20), run=run)
    cache = ModelCache(store, builder, 4 << 20, Metrics(registry), clock)
    run_blocking(cache.policy("a", ""))
    clock.now += REFRESH_SECONDS
    run_blocking(cache.policy("a", ""))  # answers at once, and looks in the background
    run_blocking(cache.policy("b", ""))
    wait_until(lambda: cache.cached("b", "") is not None, every=0.001)
    assert run_blocking(cache.policy("a", "")).run_id == "a"
    cache.close()


def test_run_created_again_is_not_served_by_models_of_the_earlier_run(
    cache: ModelCache, publish: Publish, store: RunStore, clock: Clock
) -> None:
    store.run("r").claim(None, "uid-of-the-first")
    old = publish(ONE)
    for selector in ("", "step:100", old.digest):
        run_blocking(cache.policy("r", selector))
    store.run("r").claim(None, "uid-of-the-second")
    clock.now += 60
    for selector in ("", "step:100", old.digest):
        with pytest.raises(ModelNotFound):
            run_blocking(cache.policy("r", selector))
    new = publish(TWO)
    assert run_blocking(cache.policy("r", "")).digest == new.digest


def test_selectors_of_evicted_models_are_removed(
    store: RunStore,
    publish: Publish,
    clock: Clock,
    builder: Builder,
    registry: CollectorRegistry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("aisandbox_inference.model_cache._MAX_ENTRIES", 3)
    cache = ModelCache(store, builder, 4 << 20, Metrics(registry), clock)  # of these models one fits
    for run in "abcde":
        publish(LinearPolicy(padding=1 << 20), run=run)
        run_blocking(cache.policy(run, ""))
    assert cache.cached("e", "") is not None
    assert len(cache._entries) <= 3
    cache.close()


def test_damage_is_reported_if_the_older_model_was_evicted(
    store: RunStore, publish: Publish, clock: Clock, builder: Builder, registry: CollectorRegistry
) -> None:
    cache = ModelCache(store, builder, 4 << 20, Metrics(registry), clock)
    for run in "ab":
        publish(LinearPolicy(padding=1 << 20), run=run)
        run_blocking(cache.policy(run, ""))
    assert cache.cached("a", "") is None
    (store.run("a").models_path / "latest").write_bytes(b"?")
    clock.now += 60
    with pytest.raises(Damaged):
        run_blocking(cache.policy("a", ""))
    cache.close()

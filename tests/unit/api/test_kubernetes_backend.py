"""The Kubernetes backend through the real client, against a small API server on the loopback."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aisandbox_api import Settings, StartupError
from aisandbox_api.errors import (
    AttemptOver,
    BackendUnavailable,
    InvalidRequest,
    LimitReached,
    NotAuthenticated,
    NotPermitted,
    RunDone,
    RunUnknown,
    ServiceStopping,
)
from aisandbox_api.kubernetes import KubernetesBackend
from aisandbox_api.metrics import Metrics
from aisandbox_crds.effective_values import seed_of
from aisandbox_crds.spec import Algorithm, TrainingRunSpec
from aisandbox_crds.status import Phase, ProgressReport
from aisandbox_crds.status_values import Activity, Artifact
from aisandbox_crds.trainingrun import REQUEST_ANNOTATION, TrainingRun
from fake_kubernetes import DROP, DROP_AFTER, NAMESPACE, FakeKubernetes
from kubernetes.aio.client import Configuration

PATIENCE_SECONDS = 10.0
CHECKPOINT = Artifact("checkpoints/400", 400, "sha256:c")


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not holds():  # noqa: ASYNC110 - a state of another process
            await asyncio.sleep(0.01)


def new_run(name: str = "lander-b", **fields: Any) -> TrainingRun:
    spec = TrainingRunSpec(Algorithm.PPO, total_timesteps=1000, seed=7)
    return TrainingRun(name, spec, annotations={REQUEST_ANNOTATION: f"request-of-{name}"}, **fields)


Opened = Callable[..., Any]


@pytest.fixture
def opened(api: FakeKubernetes, tmp_path: Path) -> Opened:
    """Another replica on the same cluster."""

    async def load() -> Configuration:
        return Configuration(host=api.url)

    @asynccontextmanager
    async def opened(metrics: Metrics | None = None, sync: float = 5.0, stale: float = 60.0, **settings: Any) -> Any:
        chosen = Settings(models_dir=tmp_path, backend="kubernetes", pod_namespace=NAMESPACE, **settings)
        backend = KubernetesBackend(chosen, metrics or Metrics(), load, sync_seconds=sync, stale_seconds=stale)
        try:
            await backend.open()
            await backend.start("", None)
            yield backend
        finally:
            await backend.close()

    return opened


@pytest.fixture
async def backend(opened: Opened) -> AsyncIterator[KubernetesBackend]:
    async with opened() as backend:
        yield backend


async def seen(backend: KubernetesBackend, name: str, holds: Callable[[TrainingRun], object]) -> TrainingRun:
    """The first state of the run that holds."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for run in backend.watch(name):
            if holds(run):
                return run
    raise AssertionError("the watch has ended")


# starting


async def test_created_run_is_stored_and_cached_at_once(api: FakeKubernetes, backend: KubernetesBackend) -> None:
    created = await backend.create(new_run())
    assert api.objects["lander-b"]["spec"]["seed"] == 7
    assert created.uid == api.objects["lander-b"]["metadata"]["uid"]
    assert await backend.get("lander-b") == created
    assert (await backend.find_request("request-of-lander-b")) == created


async def test_status_and_list_are_answered_from_the_cache(api: FakeKubernetes, backend: KubernetesBackend) -> None:
    await backend.create(new_run())
    calls = len(api.calls)
    for _ in range(50):
        await backend.get("lander-b")
        await backend.list()
    assert len(api.calls) == calls


async def test_create_of_a_known_name_is_that_run(api: FakeKubernetes, backend: KubernetesBackend) -> None:
    first = await backend.create(new_run())
    assert await backend.create(replace(new_run(), spec=replace(new_run().spec, seed=8))) == first
    assert api.count("POST", "trainingruns") == 1


async def test_two_replicas_that_create_at_once_get_one_run(api: FakeKubernetes, opened: Opened) -> None:
    async with opened() as one, opened() as other:
        runs = await asyncio.gather(*(each.create(new_run()) for each in (one, other) for _ in range(4)))
        assert len({run.uid for run in runs}) == 1
        assert len(api.objects) == 1


@pytest.mark.parametrize("fault", [DROP, DROP_AFTER, (500, "InternalError"), (503, ""), (429, "TooManyRequests")])
async def test_create_is_retried_after_a_lost_answer(
    api: FakeKubernetes, backend: KubernetesBackend, fault: Any
) -> None:
    api.fail("POST", "trainingruns", fault)
    created = await backend.create(new_run())
    assert created.uid == api.objects["lander-b"]["metadata"]["uid"]
    assert len(api.objects) == 1


async def test_create_without_an_api_server_is_unavailable(api: FakeKubernetes, backend: KubernetesBackend) -> None:
    api.refuse_all = True
    with pytest.raises(BackendUnavailable, match="503"):
        await backend.create(new_run())


async def test_create_that_a_shutdown_interrupts_may_be_sent_again(api: FakeKubernetes, opened: Opened) -> None:
    async with opened() as backend:
        api.fail("POST", "trainingruns", (503, ""))
        creating = asyncio.create_task(backend.create(new_run()))
        await until(lambda: api.count("POST", "trainingruns"))
    with pytest.raises(ServiceStopping):
        await creating
    assert not api.objects


async def test_create_of_a_name_that_is_being_deleted_may_be_sent_again(
    api: FakeKubernetes, backend: KubernetesBackend
) -> None:
    api.add("lander-b", deletionTimestamp="2025-01-01T00:00:00Z")
    with pytest.raises(BackendUnavailable, match="being deleted"):
        await backend.create(new_run())


async def test_create_that_the_schema_refuses_names_the_field(api: FakeKubernetes, backend: KubernetesBackend) -> None:
    api.fail("POST", "trainingruns", (422, "Invalid"))
    with pytest.raises(InvalidRequest):
        await backend.create(new_run())


async def test_pending_runs_are_limited(api: FakeKubernetes, opened: Opened) -> None:
    async with opened(max_pending_runs=2) as backend:
        await backend.create(new_run("a"))
        await backend.create(new_run("b"))
        with pytest.raises(LimitReached, match="MAX_PENDING_RUNS"):
            await backend.create(new_run("c"))
        api.set_status("a", phase="Running")
        await seen(backend, "a", lambda run: run.status.phase is Phase.RUNNING)
        await backend.create(new_run("c"))


async def test_runs_that_are_suspended_after_their_start_are_limited(api: FakeKubernetes, opened: Opened) -> None:
    async with opened(max_pending_runs=10, max_suspended_runs=2) as backend:
        for name in ("a", "b"):
            await backend.create(new_run(name))
            await backend.suspend(name)
        with pytest.raises(LimitReached, match="MAX_SUSPENDED_RUNS"):
            await backend.create(new_run("c"))
        await backend.resume("a")
        await backend.create(new_run("c"))


# the cache


async def test_run_of_kubectl_apply_is_served_like_any_other(api: FakeKubernetes, backend: KubernetesBackend) -> None:
    api.add("from-git")
    await until(lambda: api.count("GET", "watch"))
    run = await seen(backend, "from-git", lambda run: True)
    assert (run.spec.total_timesteps, run.status.phase, run.spec.seed) == (1000, Phase.PENDING, seed_of(run.uid))
    assert [run.name for run in await backend.list()] == ["from-git"]


async def test_run_that_the_cache_does_not_have_is_looked_up(api: FakeKubernetes, opened: Opened) -> None:
    async with opened() as backend:
        api.fail("GET", "watch", *[(503, "")] * 100)
        api.drop_watches()
        await until(lambda: api.count("GET", "watch") >= 2)
        api.add("new-one")
        assert (await backend.get("new-one")).name == "new-one"


async def test_lookups_of_unknown_runs_are_limited(api: FakeKubernetes, backend: KubernetesBackend) -> None:
    for number in range(100):
        with pytest.raises(RunUnknown):
            await backend.get(f"nobody-{number}")
    with pytest.raises(RunUnknown):
        await backend.get("../../etc")
    assert api.count("GET", "trainingruns") < 60


async def test_watch_continues_after_a_broken_stream(api: FakeKubernetes, backend: KubernetesBackend) -> None:
    await backend.create(new_run())
    api.drop_watches()
    api.set_status("lander-b", phase="Running")
    await seen(backend, "lander-b", lambda run: run.status.phase is Phase.RUNNING)
    assert api.count("GET", "trainingruns") == 1  # no second list was needed


async def test_watch_lists_again_when_its_version_has_expired(api: FakeKubernetes, backend: KubernetesBackend) -> None:
    api.add("stays")
    api.add("goes")
    await until(lambda: set(backend._cache.runs) == {"stays", "goes"})  # from the watch, not looked up one by one
    api.delete("goes")
    api.set_status("stays", phase="Running")
    api.compact()
    api.drop_watches()
    await until(lambda: set(backend._cache.runs) == {"stays"})
    await seen(backend, "stays", lambda run: run.status.phase is Phase.RUNNING)
    assert [run.name for run in await backend.list()] == ["stays"]


async def test_list_is_read_in_pages(api: FakeKubernetes, opened: Opened) -> None:
    api.page_size = 2
    for number in range(5):
        api.add(f"run-{number}")
    async with opened() as backend:
        assert len(await backend.list()) == 5


async def test_older_answer_never_replaces_a_newer_state(api: FakeKubernetes, backend: KubernetesBackend) -> None:
    created = await backend.create(new_run())
    api.set_status("lander-b", phase="Running")
    await seen(backend, "lander-b", lambda run: run.status.phase is Phase.RUNNING)
    backend._put(created)
    assert (await backend.get("lander-b")).status.phase is Phase.RUNNING
    api.delete("lander-b")
    api.bookmark()
    await until(lambda: "lander-b" not in backend._cache.runs)
    backend._put(created)
    with pytest.raises(RunUnknown):
        await backend.get("lander-b")


async def test_deleted_and_created_again_is_another_run(api: FakeKubernetes, backend: KubernetesBackend) -> None:
    first = await backend.create(new_run())
    api.set_status("lander-b", phase="Failed", failure={"reason": "R", "message": "m"})
    api.delete("lander-b")
    api.add("lander-b")
    again = await seen(backend, "lander-b", lambda run: run.uid != first.uid)
    assert again.status.phase is Phase.PENDING
    assert await backend.find_request("request-of-lander-b") is None


async def test_resource_that_cannot_be_read_is_left_out(api: FakeKubernetes, opened: Opened) -> None:
    api.add("odd", spec={"algorithm": "DDPG", "totalTimesteps": 5})
    api.add("fine")
    async with opened() as backend:
        assert [run.name for run in await backend.list()] == ["fine"]
        with pytest.raises(RunUnknown, match="algorithm"):
            await backend.get("odd")


async def test_open_waits_for_the_cluster(api: FakeKubernetes, opened: Opened) -> None:
    api.fail("GET", "trainingruns", (503, ""), DROP, (500, ""))
    api.add("there")
    async with opened() as backend:
        assert [run.name for run in await backend.list()] == ["there"]


async def test_open_without_the_permission_to_list_is_a_startup_error(api: FakeKubernetes, opened: Opened) -> None:
    api.fail("GET", "trainingruns", *[(403, "Forbidden")] * 100)
    with pytest.raises(StartupError, match="403 Forbidden"):
        async with opened(sync=0.5):
            pass


async def test_backend_is_unavailable_while_its_cache_is_out_of_date(api: FakeKubernetes, opened: Opened) -> None:
    api.add("a")
    async with opened(stale=0.5) as backend:
        assert backend.unavailable == ""
        api.refuse_all = True
        api.drop_watches()
        await until(lambda: backend.unavailable)
        assert "last contact with the cluster" in backend.unavailable
        for call in (backend.get("a"), backend.list(), backend.create(new_run())):
            with pytest.raises(BackendUnavailable, match="last contact with the cluster"):
                await call
        api.refuse_all = False
        await until(lambda: not backend.unavailable)
        assert (await backend.get("a")).name == "a"


async def test_metrics_count_runs_calls_and_restarts(api: FakeKubernetes, opened: Opened) -> None:
    metrics = Metrics()
    async with opened(metrics) as backend:
        await backend.create(new_run())
        api.set_status("lander-b", phase="Running")
        await seen(backend, "lander-b", lambda run: run.status.phase is Phase.RUNNING)
        value = metrics.registry.get_sample_value
        assert value("aisandbox_runs", {"phase": "Running"}) == 1
        assert value("aisandbox_watch_lists_total") == 1
        labels = {"verb": "POST", "resource": "trainingruns", "code": "201"}
        assert value("aisandbox_kubernetes_calls_total", labels) == 1
        api.delete("lander-b")
        await until(lambda: value("aisandbox_runs", {"phase": "Running"}) == 0)


# wishes


@pytest.mark.parametrize(
    ("wish", "field", "value"), [("cancel", "cancel", True), ("suspend", "suspend", True), ("resume", "suspend", False)]
)
async def test_cancel_suspend_and_resume_patch_the_spec(
    api: FakeKubernetes, backend: KubernetesBackend, wish: str, field: str, value: bool
) -> None:
    api.add("a", spec={"algorithm": "A2C", "totalTimesteps": 5, "suspend": not value})
    await seen(backend, "a", lambda run: True)
    run = await getattr(backend, wish)("a")
    assert getattr(run.spec, field) is value
    assert api.objects["a"]["spec"][field] is value
    patches = api.count("PATCH", "trainingruns")
    assert await getattr(backend, wish)("a") == run
    assert api.count("PATCH", "trainingruns") == patches == 1


async def test_patch_is_repeated_after_a_conflict(api: FakeKubernetes, opened: Opened) -> None:
    api.add("a")
    async with opened() as backend:
        api.fail("GET", "watch", *[(503, "")] * 100)
        api.drop_watches()
        await until(lambda: api.count("GET", "watch") >= 2)
        api.set_status("a", phase="Running")  # which the cache does not know
        assert (await backend.suspend("a")).spec.suspend
        assert (await backend.get("a")).status.phase is Phase.RUNNING


async def test_patch_of_a_run_that_has_ended_meanwhile_is_refused(api: FakeKubernetes, opened: Opened) -> None:
    api.add("a")
    async with opened() as backend:
        api.fail("GET", "watch", *[(503, "")] * 100)
        api.drop_watches()
        await until(lambda: api.count("GET", "watch") >= 2)
        api.set_status("a", phase="Succeeded")
        with pytest.raises(RunDone, match="Succeeded"):
            await backend.cancel("a")
        assert "cancel" not in api.objects["a"]["spec"]


async def test_cancel_of_a_cancelled_run_changes_nothing(api: FakeKubernetes, backend: KubernetesBackend) -> None:
    api.add("a", status={"phase": "Cancelled"})
    await seen(backend, "a", lambda run: True)
    assert (await backend.cancel("a")).status.phase is Phase.CANCELLED
    with pytest.raises(RunDone):
        await backend.suspend("a")


async def test_patch_of_a_run_that_was_deleted_meanwhile_is_unknown(api: FakeKubernetes, opened: Opened) -> None:
    api.add("a")
    async with opened() as backend:
        api.fail("GET", "watch", *[(503, "")] * 100)
        api.drop_watches()
        await until(lambda: api.count("GET", "watch") >= 2)
        api.delete("a")
        with pytest.raises(RunUnknown):
            await backend.cancel("a")


# watching


async def test_watch_ends_with_the_run_s_end(api: FakeKubernetes, backend: KubernetesBackend) -> None:
    api.add("a")
    phases: list[Phase] = []

    async def follow() -> None:
        async for run in backend.watch("a"):
            phases.append(run.status.phase)  # noqa: PERF401 - read meanwhile

    following = asyncio.create_task(follow())
    for phase in ("Starting", "Running", "Succeeded"):
        await until(lambda: phases)
        api.set_status("a", phase=phase)
        await until(partial(lambda wanted: phases[-1] == wanted, phase))
    await asyncio.wait_for(following, PATIENCE_SECONDS)
    assert phases == [Phase.PENDING, Phase.STARTING, Phase.RUNNING, Phase.SUCCEEDED]


async def test_watch_of_a_run_that_is_deleted_ends_as_unknown(api: FakeKubernetes, backend: KubernetesBackend) -> None:
    api.add("a")
    await seen(backend, "a", lambda run: True)
    watching = asyncio.create_task(seen(backend, "a", lambda run: False))
    api.delete("a")
    with pytest.raises(RunUnknown):
        await watching


async def test_watch_ends_when_the_service_stops(api: FakeKubernetes, opened: Opened) -> None:
    api.add("a")
    async with opened() as backend:
        watching = asyncio.create_task(seen(backend, "a", lambda run: False))
        await asyncio.sleep(0)
    with pytest.raises((ServiceStopping, BackendUnavailable)):
        await watching


async def test_watch_yields_only_changes_that_clients_see(api: FakeKubernetes, backend: KubernetesBackend) -> None:
    api.add("a", status={"phase": "Running"})
    states: list[TrainingRun] = []

    async def follow() -> None:
        async for run in backend.watch("a"):
            states.append(run)  # noqa: PERF401 - read meanwhile

    following = asyncio.create_task(follow())
    await until(lambda: states)
    api.set_status("a", observedGeneration=2)
    api.set_status("a", attempt=1)
    await until(lambda: states[-1].status.attempt == 1)
    assert len(states) == 2
    following.cancel()


# progress


async def running(api: FakeKubernetes, backend: KubernetesBackend, name: str = "a", **status: Any) -> None:
    api.add(name, status={"phase": "Running", "attempt": 1, **status})
    api.add_pod(f"{name}-pod", name, f"token-of-{name}")
    await seen(backend, name, lambda run: True)


def report(timesteps: int = 410, attempt: int = 1, **fields: Any) -> ProgressReport:
    return ProgressReport(attempt, timesteps, **{"activity": Activity.TRAINING, "fps": 50.0, **fields})


async def test_report_is_served_at_once_and_written_to_the_status(
    api: FakeKubernetes, backend: KubernetesBackend
) -> None:
    await running(api, backend)
    await backend.report("a", report(latest_checkpoint=CHECKPOINT, episode_reward_mean=1.5), "token-of-a")
    progress = (await backend.get("a")).status.progress
    assert (progress.timesteps, progress.fps, progress.progress_percentage) == (410, 50.0, 41.0)
    await until(lambda: "progress" in api.objects["a"]["status"])
    status = api.objects["a"]["status"]
    assert (status["progress"]["timesteps"], status["progress"]["attempt"]) == (410, 1)
    assert status["latestCheckpoint"]["path"] == "checkpoints/400"
    assert status["phase"] == "Running"


async def test_writes_of_reports_are_limited(
    api: FakeKubernetes, backend: KubernetesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aisandbox_api.kubernetes.progress_writer.INTERVAL_SECONDS", 600.0)
    for name in ("a", "b"):
        await running(api, backend, name)
    await backend.report("a", report(399), "token-of-a")
    await until(lambda: api.count("PATCH", "trainingruns/status") == 1)
    for timesteps in range(400, 500):
        await backend.report("a", report(timesteps), "token-of-a")
    assert api.count("POST", "tokenreviews") == api.count("GET", "pods") == 1
    await backend.report("b", report(), "token-of-b")  # its write begins after those that the reports before have begun
    await until(lambda: "progress" in api.objects["b"]["status"])
    assert api.count("PATCH", "trainingruns/status") == 2
    assert api.objects["a"]["status"]["progress"]["timesteps"] == 399
    assert (await backend.get("a")).status.progress.timesteps == 499


async def test_other_replica_sees_progress_through_the_cluster(api: FakeKubernetes, opened: Opened) -> None:
    async with opened() as one, opened() as other:
        await running(api, one)
        await one.report("a", report(), "token-of-a")
        run = await seen(other, "a", lambda run: run.status.progress.timesteps == 410)
        assert run.status.progress.activity == "Training"


async def test_trainer_that_changes_to_another_replica_is_served_by_both(api: FakeKubernetes, opened: Opened) -> None:
    async with opened() as one, opened() as other:
        await running(api, one)
        await one.report("a", report(410), "token-of-a")
        await seen(other, "a", lambda run: run.status.progress.timesteps == 410)
        await other.report("a", report(600, activity=Activity.EVALUATING), "token-of-a")
        await seen(one, "a", lambda run: run.status.progress.timesteps == 600)


async def test_progress_does_not_overwrite_an_end_that_the_cache_does_not_have(
    api: FakeKubernetes, opened: Opened
) -> None:
    async with opened() as backend:
        await running(api, backend)
        api.fail("GET", "watch", *[(503, "")] * 100)
        api.drop_watches()
        await until(lambda: api.count("GET", "watch") >= 2)
        api.set_status("a", phase="Succeeded", progress={"timesteps": 1000})
        await backend.report("a", report(), "token-of-a")
        run = await seen(backend, "a", lambda run: run.status.phase.is_done)
        assert run.status.progress.timesteps == 1000
        assert api.objects["a"]["status"]["progress"] == {"timesteps": 1000}
        with pytest.raises(AttemptOver):
            await backend.report("a", report(), "token-of-a")


async def test_progress_is_written_after_a_conflict(api: FakeKubernetes, opened: Opened) -> None:
    async with opened() as backend:
        await running(api, backend)
        api.fail("GET", "watch", *[(503, "")] * 100)
        api.drop_watches()
        await until(lambda: api.count("GET", "watch") >= 2)
        api.set_status("a", restarts=1)
        await backend.report("a", report(), "token-of-a")
        await until(lambda: api.objects["a"]["status"].get("progress", {}).get("timesteps") == 410)
        assert api.objects["a"]["status"]["restarts"] == 1


async def test_report_is_accepted_without_an_api_server(api: FakeKubernetes, opened: Opened) -> None:
    async with opened() as backend:
        await running(api, backend)
        await backend.report("a", report(410), "token-of-a")
        api.refuse_all = True
        await backend.report("a", report(420), "token-of-a")
        assert (await backend.get("a")).status.progress.timesteps == 420


async def test_progress_that_could_not_be_written_is_written_without_another_report(
    api: FakeKubernetes, backend: KubernetesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aisandbox_api.kubernetes.progress_writer.INTERVAL_SECONDS", 0.1)
    await running(api, backend)
    api.fail("PATCH", "trainingruns/status", (503, ""), DROP)
    await backend.report("a", report(410), "token-of-a")
    await until(lambda: api.objects["a"]["status"].get("progress", {}).get("timesteps") == 410)
    assert api.count("PATCH", "trainingruns/status") == 3


async def test_restarted_service_continues_with_the_next_report(api: FakeKubernetes, opened: Opened) -> None:
    async with opened() as backend:
        await running(api, backend, progress={"timesteps": 500, "attempt": 1, "activity": "Training"}, attempt=1)
        resumed: dict[str, Any] = {"attempt": 2, "resumed_from": CHECKPOINT}
        await backend.report("a", report(405, **resumed), "token-of-a")
        await until(lambda: api.objects["a"]["status"].get("timestepsLost") == 100)
    async with opened() as backend:
        await backend.report("a", report(450, **resumed), "token-of-a")
        status = (await backend.get("a")).status
        assert (status.progress.timesteps, status.timesteps_lost, status.resumed_from) == (450, 100, CHECKPOINT)


async def test_older_attempt_is_over(api: FakeKubernetes, backend: KubernetesBackend) -> None:
    await running(api, backend, attempt=3)
    with pytest.raises(AttemptOver, match="attempt 2"):
        await backend.report("a", report(attempt=2), "token-of-a")
    await backend.report("a", report(attempt=4), "token-of-a")
    with pytest.raises(AttemptOver):
        await backend.report("a", report(attempt=3), "token-of-a")


@pytest.mark.parametrize("token", [None, "", "forged", "x" * 100_000])
async def test_report_without_a_valid_token_is_refused(
    api: FakeKubernetes, backend: KubernetesBackend, token: str | None
) -> None:
    await running(api, backend)
    with pytest.raises(NotAuthenticated):
        await backend.report("a", report(), token)
    assert (await backend.get("a")).status.progress.timesteps == 0


async def test_forged_token_is_reviewed_once(api: FakeKubernetes, backend: KubernetesBackend) -> None:
    await running(api, backend)
    for _ in range(20):
        with pytest.raises(NotAuthenticated):
            await backend.report("a", report(), "forged")
    assert api.count("POST", "tokenreviews") == 1


async def test_reviews_of_forged_tokens_are_limited(api: FakeKubernetes, backend: KubernetesBackend) -> None:
    await running(api, backend)
    await backend.report("a", report(410), "token-of-a")
    refusals = await asyncio.gather(
        *(backend.report("a", report(), f"forged-{number}") for number in range(600)), return_exceptions=True
    )
    assert {type(refusal) for refusal in refusals} == {NotAuthenticated, BackendUnavailable}
    assert api.count("POST", "tokenreviews") < 500
    await backend.report("a", report(420), "token-of-a")  # a token in the cache needs no review


async def test_token_of_another_run_s_pod_is_refused(api: FakeKubernetes, backend: KubernetesBackend) -> None:
    await running(api, backend)
    await running(api, backend, "b")
    with pytest.raises(NotPermitted, match="b-pod"):
        await backend.report("a", report(), "token-of-b")


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"ownerReferences": []}, NotPermitted),
        ({"ownerReferences": [{"kind": "ReplicaSet", "name": "a", "controller": True}]}, NotPermitted),
        ({"ownerReferences": [{"kind": "Job", "name": "a"}]}, NotPermitted),
        ({"labels": {}}, NotPermitted),
        ({"uid": "another"}, NotAuthenticated),
    ],
)
async def test_token_of_a_pod_that_is_not_the_run_s_trainer_is_refused(
    api: FakeKubernetes, backend: KubernetesBackend, change: dict[str, Any], refusal: type[Exception]
) -> None:
    await running(api, backend)
    api.pods["a-pod"]["metadata"].update(change)
    with pytest.raises(refusal):
        await backend.report("a", report(), "token-of-a")


@pytest.mark.parametrize(
    "change",
    [
        {"audiences": ["https://kubernetes.default.svc"]},
        {"user": {"username": f"system:serviceaccount:{NAMESPACE}:aisandbox-trainer"}},
        {"user": {"username": "system:serviceaccount:other:aisandbox-trainer", "extra": {}}},
    ],
)
async def test_token_that_is_not_bound_to_a_pod_for_this_service_is_refused(
    api: FakeKubernetes, backend: KubernetesBackend, change: dict[str, Any]
) -> None:
    await running(api, backend)
    api.tokens["token-of-a"].update(change)
    with pytest.raises(NotAuthenticated):
        await backend.report("a", report(), "token-of-a")


async def test_token_of_a_deleted_run_s_trainer_is_refused_by_the_next_run_of_that_name(
    api: FakeKubernetes, backend: KubernetesBackend
) -> None:
    await running(api, backend)
    await backend.report("a", report(), "token-of-a")
    api.delete("a")
    api.add("a", status={"phase": "Running"})
    await seen(backend, "a", lambda run: run.uid == api.objects["a"]["metadata"]["uid"])
    with pytest.raises(NotPermitted, match="deleted"):
        await backend.report("a", report(attempt=9), "token-of-a")
    api.add_pod("a-pod-2", "a", "new-token-of-a")
    await backend.report("a", report(attempt=1), "new-token-of-a")


async def test_report_whose_run_is_replaced_while_its_token_is_checked_is_not_the_new_run_s(
    api: FakeKubernetes, backend: KubernetesBackend
) -> None:
    await running(api, backend)
    api.fail("POST", "tokenreviews", (503, ""))  # so that the check takes a while
    reporting = asyncio.create_task(backend.report("a", report(attempt=9), "token-of-a"))
    await until(lambda: api.count("POST", "tokenreviews"))
    api.delete("a")
    api.add("a", status={"phase": "Running"})
    with pytest.raises(RunUnknown, match="deleted"):
        await reporting
    assert (await backend.get("a")).status.attempt == 0


async def test_token_of_a_deleted_pod_is_refused(api: FakeKubernetes, backend: KubernetesBackend) -> None:
    await running(api, backend)
    del api.pods["a-pod"]
    with pytest.raises(NotAuthenticated, match="does not exist"):
        await backend.report("a", report(), "token-of-a")


async def test_report_for_an_unknown_run_is_unknown(backend: KubernetesBackend) -> None:
    with pytest.raises(RunUnknown):
        await backend.report("a", report(), "token")


async def test_token_that_cannot_be_reviewed_may_be_sent_again(api: FakeKubernetes, backend: KubernetesBackend) -> None:
    await running(api, backend)
    api.fail("POST", "tokenreviews", (403, "Forbidden"))
    with pytest.raises(BackendUnavailable, match="may not check tokens"):
        await backend.report("a", report(), "token-of-a")
    await backend.report("a", report(), "token-of-a")

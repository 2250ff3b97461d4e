"""The sweep of deleted runs' files, on real folders."""

import shutil
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from aisandbox_api.errors import BackendUnavailable
from aisandbox_api.kubernetes.deleted_runs import MARK, DeletedRuns, owned_folders, remove
from aisandbox_api.kubernetes.metrics import ClusterMetrics
from aisandbox_api.kubernetes.run_cache import RunCache
from aisandbox_api.kubernetes.run_resources import RunList, RunResources
from aisandbox_crds.spec import Algorithm, TrainingRunSpec
from aisandbox_crds.status import TrainingRunStatus
from aisandbox_crds.trainingrun import TrainingRun
from aisandbox_model_store import RunStore
from aisandbox_model_store.prepare import prepare
from prometheus_client import CollectorRegistry

NOW = datetime(2025, 1, 1, tzinfo=UTC)
RETENTION = 100.0


class Cluster:
    """What the API server says of runs, which the cache may not know yet."""

    def __init__(self) -> None:
        self.uids: dict[str, str] = {}
        self.is_away = False

    async def get(self, name: str) -> TrainingRun | None:
        if self.is_away:
            raise BackendUnavailable("away")
        return a_run(name, self.uids[name]) if name in self.uids else None


def a_run(name: str, uid: str, files_uid: str = "") -> TrainingRun:
    status = TrainingRunStatus(files_uid=files_uid)
    return TrainingRun(name, TrainingRunSpec(Algorithm.PPO, 100), status, uid=uid, resource_version="1")


class Sweep:
    def __init__(self, tmp_path: Path) -> None:
        self.store = RunStore(tmp_path / "models", tmp_path / "checkpoints")
        self.cluster, self.cache = Cluster(), RunCache()
        resources = cast(RunResources, self.cluster)
        metrics = ClusterMetrics(CollectorRegistry())
        self.deleted = DeletedRuns(self.store, self.cache, resources, metrics, RETENTION)

    def knows(self, runs: Mapping[str, str]) -> None:
        self.cluster.uids = dict(runs)
        self.cache.replace(RunList(tuple(a_run(name, uid) for name, uid in runs.items()), "1"))

    async def at(self, seconds: float) -> None:
        await self.deleted.sweep(NOW + timedelta(seconds=seconds))

    def claim(self, name: str, uid: str) -> tuple[Path, ...]:
        self.store.run(name).claim(None, uid)
        return self.store.run(name).roots


@pytest.fixture
def sweep(tmp_path: Path) -> Any:
    return Sweep(tmp_path)


async def test_files_of_a_deleted_run_are_removed_after_the_retention_time(sweep: Sweep) -> None:
    folders = sweep.claim("a", "uid-a")
    assert len(folders) == 2
    await sweep.at(0)
    assert all((folder / MARK).exists() for folder in folders)
    await sweep.at(RETENTION - 1)
    assert all(folder.exists() for folder in folders)
    await sweep.at(RETENTION)
    assert not any(folder.exists() for folder in folders)
    assert not list(folders[0].parent.iterdir())


async def test_files_of_a_run_that_exists_are_kept(sweep: Sweep) -> None:
    (folder, _) = sweep.claim("a", "uid-a")
    sweep.knows({"a": "uid-a"})
    await sweep.at(0)
    await sweep.at(10 * RETENTION)
    assert folder.exists()
    assert not (folder / MARK).exists()


async def test_run_that_only_the_cluster_knows_keeps_its_files(sweep: Sweep) -> None:
    (folder, _) = sweep.claim("a", "uid-a")
    sweep.cluster.uids = {"a": "uid-a"}
    await sweep.at(0)
    await sweep.at(10 * RETENTION)
    assert folder.exists()


async def test_mark_of_a_run_that_exists_is_removed(sweep: Sweep) -> None:
    (folder, _) = sweep.claim("a", "uid-a")
    await sweep.at(0)
    sweep.knows({"a": "uid-a"})
    await sweep.at(RETENTION)
    assert not (folder / MARK).exists()


async def test_folder_without_a_uid_is_never_removed(sweep: Sweep) -> None:
    sweep.store.run("local").claim(1)
    await sweep.at(0)
    await sweep.at(10 * RETENTION)
    assert sweep.store.run("local").path.exists()


async def test_folder_of_a_name_in_use_again_is_kept_until_its_trainer_renames_it(sweep: Sweep) -> None:
    (folder, _) = sweep.claim("a", "old-uid-of-a")
    sweep.knows({"a": "new-uid-of-a"})
    await sweep.at(0)
    await sweep.at(10 * RETENTION)
    assert folder.exists()
    sweep.claim("a", "new-uid-of-a")  # sets the old folder aside
    aside = folder.with_name("a.old-uid-")
    assert aside.exists()
    await sweep.at(20 * RETENTION)
    await sweep.at(21 * RETENTION)
    assert folder.exists()
    assert not aside.exists()


async def test_run_that_was_restored_keeps_its_files_also_if_they_were_set_aside(sweep: Sweep) -> None:
    (folder, _) = sweep.claim("a", "old-uid-of-a")
    sweep.claim("a", "new-uid-of-a")
    aside = folder.with_name("a.old-uid-")
    await sweep.at(0)
    assert (aside / MARK).exists()
    sweep.cache.replace(RunList((a_run("a", "new-uid-of-a", "old-uid-of-a"),), "1"))
    sweep.cluster.uids = {"a": "new-uid-of-a"}
    await sweep.at(10 * RETENTION)
    assert aside.exists()
    assert not (aside / MARK).exists()


async def test_retention_time_of_a_restored_run_begins_with_its_own_deletion(sweep: Sweep) -> None:
    (folder, _) = sweep.claim("a", "old-uid-of-a")
    await sweep.at(0)
    assert (folder / MARK).exists(), "the new cluster has no runs yet"
    sweep.knows({"a": "new-uid-of-a"})
    await sweep.at(RETENTION / 2)
    await sweep.at(10 * RETENTION)
    assert folder.exists()
    sweep.knows({})
    await sweep.at(11 * RETENTION)
    assert folder.exists()
    await sweep.at(12 * RETENTION)
    assert not folder.exists()


async def test_cluster_that_does_not_answer_keeps_everything(sweep: Sweep) -> None:
    (folder, _) = sweep.claim("a", "uid-a")
    await sweep.at(0)
    sweep.cluster.is_away = True
    await sweep.at(10 * RETENTION)
    assert folder.exists()


async def test_error_with_one_folder_does_not_end_the_sweep(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        sweep.claim(name, f"uid-{name}")
    ask = sweep.cluster.get

    async def get(name: str) -> TrainingRun | None:
        if name == "a":
            raise ValueError("never thought of")
        return await ask(name)

    monkeypatch.setattr(sweep.cluster, "get", get)
    await sweep.at(0)
    await sweep.at(RETENTION)
    assert sweep.store.run("a").path.exists()
    assert not sweep.store.run("b").path.exists()


async def test_damaged_mark_starts_the_retention_time_again(sweep: Sweep) -> None:
    (folder, _) = sweep.claim("a", "uid-a")
    await sweep.at(0)
    (folder / MARK).write_text("long ago")
    await sweep.at(10 * RETENTION)
    assert folder.exists()
    await sweep.at(11 * RETENTION)
    assert not folder.exists()


async def test_interrupted_removal_is_finished(sweep: Sweep) -> None:
    (folder, _) = sweep.claim("a", "uid-a")
    sweep.knows({"a": "uid-a"})
    gone = folder.with_name(".gone-0123")
    (gone / "models").mkdir(parents=True)
    await sweep.at(0)
    assert not gone.exists()
    assert folder.exists()


def test_folder_that_another_run_has_claimed_is_not_removed(sweep: Sweep) -> None:
    (folder, _) = sweep.claim("a", "old")
    owned = next(iter(owned_folders(sweep.store)))
    sweep.claim("a", "new")
    remove(owned)
    assert sweep.store.run("a").uid() == "new"
    assert folder.exists()


def test_folder_that_another_replica_has_removed_is_not_an_error(sweep: Sweep) -> None:
    sweep.claim("a", "uid-a")
    owned = next(iter(owned_folders(sweep.store)))
    remove(owned)
    remove(owned)


@pytest.mark.parametrize("has_source", [False, True])
def test_link_to_what_a_run_has_started_from_is_removed_with_it(sweep: Sweep, has_source: bool) -> None:
    sweep.claim("source", "uid-s")
    sweep.claim("a", "uid-a")
    prepare({"RUN_ID": "a", "RUN_UID": "uid-a", "MODELS_DIR": str(sweep.store.models_dir), "START_FROM_RUN": "source"})
    if not has_source:
        shutil.rmtree(sweep.store.run("source").path)
    (owned, *_) = (each for each in owned_folders(sweep.store) if each.run == "a")
    remove(owned)
    assert list((sweep.store.models_dir / "runs" / ".sources").iterdir()) == []
    assert sweep.store.run("source").path.exists() is has_source

"""The files of deleted runs: marked when the deletion is first seen, removed a retention time later.

Owns the marks and the removal. A folder is touched only when the run it belongs to (name and uid) is neither in a
synced cache nor in the cluster when that is read, and no other run has its name; one without a uid is never removed.
Every step may be done by several replicas at once: a mark is written atomically, a folder is renamed before it is
removed. Must not know what a folder contains.

A volume belongs to one namespace of one cluster: the runs of another one count as deleted here.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog
from aisandbox_crds import format_precise_time, parse_time
from aisandbox_model_store import (
    DEMONSTRATIONS_SUFFIX,
    SOURCES_FOLDER,
    Damaged,
    ModelStoreError,
    RunStore,
    read_regular,
    uid_of,
    write_atomically,
)

from aisandbox_api.errors import ApiError
from aisandbox_api.kubernetes.metrics import ClusterMetrics
from aisandbox_api.kubernetes.run_cache import RunCache
from aisandbox_api.kubernetes.run_resources import RunResources

log = structlog.get_logger()

MARK = "deleted-since"
SWEEPS_A_RETENTION = 10
SWEEP_SECONDS = (2.0, 3600.0)
_GONE = ".gone-"
_FOLDER = re.compile(r"([a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?)(\.[0-9A-Za-z-]{1,8})?")


@dataclass(frozen=True, slots=True)
class OwnedFolder:
    """A folder of the run ``run`` with the uid ``uid``; ``is_renamed``: renamed, because a newer run has the name."""

    path: Path
    run: str
    uid: str
    is_renamed: bool


class DeletedRuns:
    """Removes folders of ``store``."""

    def __init__(
        self,
        store: RunStore,
        cache: RunCache,
        resources: RunResources,
        metrics: ClusterMetrics,
        retention_seconds: float,
    ) -> None:
        self._store = store
        self._cache = cache
        self._resources = resources
        self._metrics = metrics
        self._retention = retention_seconds

    async def run(self, is_current: Callable[[], bool]) -> None:
        """Sweeps several times in a retention time, whenever ``is_current`` says that the cache is up to date."""
        shortest, longest = SWEEP_SECONDS
        while True:
            if is_current():
                try:
                    await self.sweep(datetime.now(UTC))
                except OSError as error:
                    log.warning("folders of deleted runs cannot be listed", why=str(error))
            await asyncio.sleep(min(max(self._retention / SWEEPS_A_RETENTION, shortest), longest))

    async def sweep(self, now: datetime) -> None:
        """Checks every folder once; the cache must be up to date. Raises OSError if folders cannot be listed.

        An error with one of them is logged.
        """
        for folder in await asyncio.to_thread(lambda: list(owned_folders(self._store))):
            try:
                await self._check(folder, now)
            except (ApiError, ModelStoreError, OSError) as error:
                log.warning("folder of a deleted run is kept", folder=str(folder.path), why=str(error)[:300])
            except Exception:  # an error with one folder must not end the sweep
                log.exception("folder could not be checked", folder=str(folder.path))

    async def _check(self, folder: OwnedFolder, now: datetime) -> None:
        known = self._cache.runs.get(folder.run)
        since = await asyncio.to_thread(marked_since, folder.path)
        if known is not None and known.files_uid == folder.uid:
            await self._keep(folder, since)
            return
        asked = await self._resources.get(folder.run)  # the cache may not have it yet
        # A name in use: the run was restored from a backup of an earlier version, or its trainer renames the folder.
        if asked is not None and (asked.files_uid == folder.uid or not folder.is_renamed):
            await self._keep(folder, since)
            return
        if since is None:
            await asyncio.to_thread(write_atomically, folder.path / MARK, format_precise_time(now).encode())
            log.info("files of a deleted run are kept for a while", run=folder.run, seconds=self._retention)
            since = now
        if (now - since).total_seconds() >= self._retention:
            await asyncio.to_thread(remove, folder)
            self._metrics.observe_removal()
            log.info("files of a deleted run are removed", run=folder.run, folder=str(folder.path))

    async def _keep(self, folder: OwnedFolder, since: datetime | None) -> None:
        if since is not None:
            await asyncio.to_thread((folder.path / MARK).unlink, missing_ok=True)


def owned_folders(store: RunStore) -> Iterator[OwnedFolder]:
    """The folders that a run has claimed with its uid, also renamed ones; finishes interrupted removals."""
    for parent in store.runs_paths:
        try:
            names = sorted(os.listdir(parent))
        except FileNotFoundError:
            continue
        for name in names:
            path = parent / name
            if name.startswith(_GONE):
                shutil.rmtree(path, ignore_errors=True)
            elif (match := _FOLDER.fullmatch(name)) and (uid := _uid(path)):
                yield OwnedFolder(path, match.group(1), uid, match.group(2) is not None)


def marked_since(path: Path) -> datetime | None:
    """When the folder was marked; None if it is not, or the mark has no time."""
    try:
        return parse_time(read_regular(path / MARK, 1024).decode().strip())
    except (OSError, ValueError, Damaged):
        return None


def remove(folder: OwnedFolder) -> None:
    """Removes the folder if it still belongs to that run. Raises OSError."""
    gone = folder.path.with_name(f"{_GONE}{secrets.token_hex(8)}")
    with contextlib.suppress(FileNotFoundError):  # another replica was faster
        os.rename(folder.path, gone)
        if uid_of(gone) != folder.uid:
            os.rename(gone, folder.path)
            return
        shutil.rmtree(gone, ignore_errors=True)
    if not folder.is_renamed:
        for suffix in ("", DEMONSTRATIONS_SUFFIX):
            _remove_link(folder.path.parent / SOURCES_FOLDER / f"{folder.run}{suffix}")


def _remove_link(path: Path) -> None:
    """What the run has read is only linked there."""
    with contextlib.suppress(OSError):
        path.unlink() if path.is_symlink() else path.rmdir()


def _uid(path: Path) -> str:
    try:
        return uid_of(path) if path.is_dir() and not path.is_symlink() else ""
    except (OSError, Damaged):
        return ""

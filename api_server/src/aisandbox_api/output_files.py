"""The files that runs write outside of their folders (model_output_path): who may write which, and the move there.

The service does it for the trainer, which reaches its run's folder only. Owns the rules; the records are
:mod:`aisandbox_model_store`'s. Must not know callers or gRPC.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from aisandbox_access import ANONYMOUS
from aisandbox_crds import TrainingRun, normalized_output_path, utc_now
from aisandbox_model_store import Damaged, Fenced, OutputRecord, RunStore, publish_output, written_by

from aisandbox_api.errors import AttemptOver, FailedPrecondition
from aisandbox_api.run_owner import owner_of

SETTING = "OVERWRITE_OUTPUTS"
OVERWRITE = ("owner", "never")
"""Whose runs may write over a file that a run has written: those of the same owner, or none."""

log = structlog.get_logger()


class OutputFiles:
    """The files of the runs of ``store``. ``overwrite``: one of OVERWRITE. ``asks``: callers say who they are."""

    def __init__(self, store: RunStore, overwrite: str = "owner", *, asks: bool = False) -> None:
        self._store = store
        self._overwrite = overwrite
        self._asks = asks

    async def check_start(self, run: TrainingRun, may_replace: Callable[[OutputRecord], Awaitable[bool]]) -> None:
        """Whether a run may be started that will write its file. Raises FailedPrecondition, OutsideRoot, OSError.

        ``may_replace``: whether the caller may write over what another owner's run has written.
        """
        record = await asyncio.to_thread(self._foreign_record, run)
        if record is not None:
            is_own = record.owner == owner_of(run) or not self._asks
            if not is_own and not await may_replace(record):
                raise _path_taken(run, "a run of another owner")
        await asyncio.to_thread(self._check_never, run, record)

    def check(self, run: TrainingRun) -> None:
        """As :meth:`check_start`, for the trainer of a run that exists: who has an owner was checked at the start.

        Blocking. Raises FailedPrecondition, OutsideRoot, OSError.
        """
        record = self._foreign_record(run)
        is_nobodys = owner_of(run) == ANONYMOUS
        if record is not None and self._asks and is_nobodys and record.owner != ANONYMOUS:
            raise _path_taken(run, "a run of another owner")
        self._check_never(run, record)

    def publish(self, run: TrainingRun, attempt: int) -> None:
        """Moves what the attempt has prepared. Blocking.

        Raises AttemptOver, FailedPrecondition, OutsideRoot, DiskFull, OSError.
        """
        try:
            self._store.run(run.name).check_attempt(attempt)
        except Fenced as error:
            raise AttemptOver(str(error)) from error
        self.check(run)
        path = str(normalized_output_path(run.spec.model_output_path))
        record = OutputRecord(run.name, run.files_uid, owner_of(run), utc_now())
        try:
            publish_output(self._store, path, record)
        except (Damaged, FileNotFoundError) as error:
            raise FailedPrecondition("NoOutput", run.name, f"the trainer has prepared no file: {error}") from error
        log.info("final model written", run=run.name, path=path)

    def _foreign_record(self, run: TrainingRun) -> OutputRecord | None:
        """The record of a file that another run has written to the path of this one."""
        path = normalized_output_path(run.spec.model_output_path)
        record = None if path is None else written_by(self._store, str(path))
        return None if record is None or self._is_of(record, run) else record

    def _check_never(self, run: TrainingRun, foreign: OutputRecord | None) -> None:
        path = normalized_output_path(run.spec.model_output_path)
        if self._overwrite != "never" or path is None:
            return
        if foreign is not None:
            raise _path_taken(run, f"the run {foreign.run!r}" if foreign.owner == owner_of(run) else "another run")
        if self._store.resolve_output(str(path)).exists() and written_by(self._store, str(path)) is None:
            raise _path_taken(run, "a file that no run has written")

    def _is_of(self, record: OutputRecord, run: TrainingRun) -> bool:
        return record.run == run.name and (record.uid == run.files_uid or not run.files_uid)


def _path_taken(run: TrainingRun, whose: str) -> FailedPrecondition:
    path = run.spec.model_output_path
    output = whose if whose.startswith("a file") else f"the output of {whose}"
    return FailedPrecondition(
        "OutputPathTaken",
        path,
        f"model_output_path: {path!r} is {output} and is not written over: choose another path, or have the file "
        "removed",
    )

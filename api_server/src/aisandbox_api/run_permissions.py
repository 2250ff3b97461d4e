"""What a caller may do with a run: the run itself, if the caller may.

Must not know how callers are authenticated, or gRPC's handlers.
"""

from __future__ import annotations

from collections.abc import Sequence

from aisandbox_access import AccessControl, Caller, Permission, Target, current_caller
from aisandbox_crds import TrainingRun
from aisandbox_model_store import OutputRecord

from aisandbox_api.backend import Backend
from aisandbox_api.errors import ApiError
from aisandbox_api.run_owner import owner_of


class RunPermissions:
    """Asks ``access_control`` about runs of ``backend``."""

    def __init__(self, access_control: AccessControl, backend: Backend) -> None:
        self._access_control = access_control
        self._backend = backend

    @property
    def asks(self) -> bool:
        """Whether callers are authenticated; if not, everybody may do everything."""
        return self._access_control.asks

    async def run(self, permission: Permission, name: str, peer: str, caller: Caller | None = None) -> TrainingRun:
        """The run, if the caller (default: of the present call) has the permission. Raises RunUnknown, AccessError."""
        run = await self._backend.get(name)
        if self._access_control.asks:
            await self._access_control.check(caller or current_caller(), permission, Target(name, owner_of(run)), peer)
        return run

    async def sees(self, name: str) -> bool:
        """Whether the caller may know of the run. Raises AuthUnavailable."""
        if not self._access_control.decides_by_owner:
            return True
        try:
            run = await self._backend.get(name)
        except ApiError:  # there is none any more, or it cannot be said
            return False
        return await self._access_control.may(current_caller(), Permission.VIEW, Target(name, owner_of(run)))

    async def visible(self, runs: Sequence[TrainingRun]) -> Sequence[TrainingRun]:
        """Those of ``runs`` that the caller may see. Raises AuthUnavailable."""
        if not self._access_control.decides_by_owner:
            return runs
        caller = current_caller()
        return [
            run
            for run in runs
            if await self._access_control.may(caller, Permission.VIEW, Target(run.name, owner_of(run)))
        ]

    async def may_replace_file(self, record: OutputRecord) -> bool:
        """As :meth:`may_replace`, of a run that may have been deleted since. Raises AuthUnavailable."""
        return await self._access_control.may(current_caller(), Permission.TRAIN, Target(record.run, record.owner))

    async def may_replace(self, run: TrainingRun) -> bool:
        """Whether the caller may write over what a run that is done has written. Raises AuthUnavailable."""
        if not self._access_control.asks:
            return True
        return await self._access_control.may(current_caller(), Permission.TRAIN, Target(run.name, owner_of(run)))

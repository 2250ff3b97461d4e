"""Who may call the service: its access control, where it may listen, and who may attach simulators or ask about models.

Must not know what the calls do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aisandbox_access import (
    ACT_METHOD,
    ATTACH_METHOD,
    AccessControl,
    AccessError,
    Caller,
    InvalidTokenFile,
    Permission,
    Target,
    check_exposure,
    create_access_control,
    current_caller,
    status_of,
)
from aisandbox_environment import Admit, Registration
from aisandbox_process import InvalidSetting
from aisandbox_process.grpc_context import text_metadata
from aisandbox_process.grpc_direct import StreamAborted

from aisandbox_api.backend import Backend
from aisandbox_api.errors import StartupError
from aisandbox_api.run_permissions import RunPermissions
from aisandbox_api.settings import Settings


def check_exposures(settings: Settings) -> None:
    """Raises InvalidSetting for an address that others reach, without what protects it."""
    access = settings.access
    listens = [("GRPC_HOST", settings.grpc_host, access.auth != "off")]
    if settings.trainer_address is not None:  # trainers are asked for their tokens always
        listens.append(("TRAINER_ADDRESS", settings.trainer_address.rpartition(":")[0], True))
    for variable, host, asks in listens:
        check_exposure(host, authenticates=asks, tls=settings.tls, insecure=access.insecure, variable=variable)


class Callers:
    """``admit``: see create_server. For one event loop. Its attributes are to be used once it is open."""

    def __init__(self, settings: Settings, backend: Backend, admit: Admit | None) -> None:
        self._settings = settings
        self._backend = backend
        self._admit = admit
        self.access_control = AccessControl()
        self.permissions = RunPermissions(self.access_control, backend)

    async def open(self) -> None:
        """Opens the access control that the settings name. Raises StartupError."""
        try:
            self.access_control = await create_access_control(self._settings.access, self._settings.pod_namespace)
        except (InvalidSetting, InvalidTokenFile) as error:
            raise StartupError(str(error)) from error
        self.permissions = RunPermissions(self.access_control, self._backend)
        await self.access_control.start()

    async def close(self) -> None:
        """To be called after the last call."""
        await self.access_control.close()

    async def may_ask_for_model(self, run_id: str, context: Any) -> None:
        """See RunHealth.may_ask."""
        try:
            caller = await self.access_control.admit(ACT_METHOD, text_metadata(context.invocation_metadata()))
        except AccessError as error:
            self.access_control.record_refusal(error, Caller(ACT_METHOD), context.peer(), run_id)
            raise
        await self.permissions.run(Permission.ACT, run_id, context.peer(), caller)

    async def admit_to_pool(self, registration: Registration, metadata: Mapping[str, str]) -> None:
        """See Admit of the relay; the record of every simulator that attaches, or may not."""
        caller = current_caller()
        result, why = "OK", ""
        try:
            if self.access_control.asks:
                target = Target(registration.pool, is_pool=True)
                await self.access_control.check(caller, Permission.SIMULATE, target, caller.peer)
            if self._admit is not None:
                await self._admit(registration, metadata)
        except AccessError as error:
            result, why = status_of(error).name, str(error)
            raise StreamAborted(status_of(error), why) from error
        except StreamAborted as error:
            result, why = error.code.name, error.details
            raise
        finally:
            self.access_control.audit.record(caller.name, caller.peer, ATTACH_METHOD, registration.pool, result, why)

"""PolicyTrainerService.WhoAmI: who the caller is, and what they may do.

Must not know how callers are authenticated.
"""

from __future__ import annotations

from typing import Any

from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox_access import AccessControl, AccessError, Permission, current_caller, status_of


class WhoAmI:
    """Asks ``access_control``."""

    def __init__(self, access_control: AccessControl) -> None:
        self._access_control = access_control

    async def WhoAmI(self, _request: pb.WhoAmIRequest, context: Any) -> pb.WhoAmIResponse:  # noqa: N802
        """See the proto."""
        caller = current_caller()
        principal = caller.principal
        try:
            permissions = [
                permission.value for permission in Permission if await self._access_control.may(caller, permission)
            ]
        except AccessError as error:  # it cannot be decided at the moment
            await context.abort(status_of(error), str(error))
        if principal is None:
            return pb.WhoAmIResponse(authentication_enabled=self._access_control.asks, rights=permissions)
        return pb.WhoAmIResponse(
            authentication_enabled=True,
            name=principal.name,
            roles=sorted(principal.roles),
            rights=permissions,
            pools=principal.pools or (),
        )

"""The lists of attached simulators, as their callers may see them: a run that is not theirs is not named.

Must not know how simulators are attached.
"""

from __future__ import annotations

from typing import Any

from aisandbox.v1 import simulator_pool_pb2
from aisandbox_access import current_caller
from aisandbox_environment import RUN_METADATA, SimulatorRelay
from aisandbox_process.grpc_context import text_metadata

from aisandbox_api.run_permissions import RunPermissions


class VisibleSimulators:
    """SimulatorPoolService by the methods of ``relay``, which take and return bytes."""

    def __init__(self, relay: SimulatorRelay, permissions: RunPermissions) -> None:
        self._relay = relay
        self._permissions = permissions
        self.Attach = relay.Attach

    async def ListSimulators(self, request: bytes, context: Any) -> bytes:  # noqa: N802 -- the service's name
        """See the proto. A trainer, which is no principal, sees the run whose token it has."""
        data = await self._relay.ListSimulators(request, context)
        if not self._permissions.asks:
            return data
        response = simulator_pool_pb2.ListSimulatorsResponse.FromString(data)
        trains = current_caller().principal is None
        own = text_metadata(context.invocation_metadata()).get(RUN_METADATA) if trains else None
        for each in response.simulators:
            if each.run_id and each.run_id != own and not await self._permissions.sees(each.run_id):
                each.run_id = ""
        return response.SerializeToString()

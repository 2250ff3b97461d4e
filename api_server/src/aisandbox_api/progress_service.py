"""TrainingProgressService: where trainers tell how far they are.

Owns the reading of the token from the metadata. Who a token belongs to is the backend's to know.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
from aisandbox.v1 import training_progress_pb2 as pb

from aisandbox_api.backend import Backend
from aisandbox_api.requests import progress_report
from aisandbox_api.status_codes import statuses

_SCHEME = "Bearer "


class ProgressCalls:
    """The method has the name and signature of the generated servicer; ``observe`` is told of every report taken."""

    def __init__(self, backend: Backend, observe: Callable[[], None] = lambda: None) -> None:
        self._backend = backend
        self._observe = observe

    async def Report(  # noqa: N802
        self, request: pb.ReportRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ReportResponse:
        """See the proto."""
        async with statuses(context):
            metadata = dict(context.invocation_metadata() or ())
            header = str(metadata.get("authorization", ""))
            token = header.removeprefix(_SCHEME) if header.startswith(_SCHEME) else None
            await self._backend.report(progress_report(request), token)
            self._observe()
            return pb.ReportResponse()

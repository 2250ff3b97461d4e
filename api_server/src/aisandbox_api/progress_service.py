"""TrainingProgressService: where trainers tell how far they are.

Owns the reading of the token from the metadata. Who a token belongs to is the backend's to know.
"""

from __future__ import annotations

from typing import Any, Protocol

import grpc
from aisandbox.v1 import training_progress_pb2 as pb

from aisandbox_api.backend import Backend
from aisandbox_api.requests import progress_report
from aisandbox_api.status_codes import abort_on_error, status_of

_SCHEME = "Bearer "


class Observer(Protocol):
    """Observes accepted and refused reports."""

    def observe_report(self) -> None:
        """A report was accepted."""

    def observe_refusal(self, status: str) -> None:
        """A report was refused with this gRPC status."""


class ProgressServicer:
    """The method has the name and signature of the generated servicer."""

    def __init__(self, backend: Backend, observer: Observer) -> None:
        self._backend = backend
        self._observer = observer

    async def Report(  # noqa: N802
        self, request: pb.ReportRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ReportResponse:
        """See the proto."""
        async with abort_on_error(context):
            metadata = dict(context.invocation_metadata() or ())
            header = str(metadata.get("authorization", ""))
            token = header.removeprefix(_SCHEME) if header.startswith(_SCHEME) else None
            try:
                await self._backend.report(request.run_id, progress_report(request), token)
            except Exception as error:
                self._observer.observe_refusal(status_of(error)[0].name)
                raise
            self._observer.observe_report()
            return pb.ReportResponse()

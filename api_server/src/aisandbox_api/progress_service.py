"""TrainingProgressService: where trainers tell how far they are.

Who a token belongs to is the backend's to know.
"""

from __future__ import annotations

from typing import Any, Protocol

import grpc
from aisandbox.v1 import training_progress_pb2 as pb
from aisandbox_access import Audit
from aisandbox_process.grpc_context import text_metadata

from aisandbox_api.backend import Backend
from aisandbox_api.errors import ReportRefused
from aisandbox_api.requests import progress_report
from aisandbox_api.status_codes import abort_on_error, status_of
from aisandbox_api.trainer_admission import token_of_trainer

REPORT_METHOD = "/aisandbox.v1.TrainingProgressService/Report"


class Observer(Protocol):
    """Observes accepted and refused reports."""

    def observe_report(self) -> None:
        """A report was accepted."""

    def observe_refusal(self, status: str) -> None:
        """A report was refused with this gRPC status."""


class ProgressServicer:
    """The method has the name and signature of the generated servicer."""

    def __init__(self, backend: Backend, observer: Observer, audit: Audit | None = None) -> None:
        self._backend = backend
        self._observer = observer
        self._audit = audit

    async def Report(  # noqa: N802
        self, request: pb.ReportRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ReportResponse:
        """See the proto."""
        async with abort_on_error(context):
            token = token_of_trainer(text_metadata(context.invocation_metadata()))
            try:
                await self._backend.report(request.run_id, progress_report(request), token)
            except Exception as error:
                status = status_of(error)[0].name
                self._observer.observe_refusal(status)
                if self._audit is not None and isinstance(error, ReportRefused):
                    self._audit.record_refusal("", context.peer(), REPORT_METHOD, request.run_id, status, str(error))
                raise
            self._observer.observe_report()
            return pb.ReportResponse()

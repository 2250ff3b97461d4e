"""TrainingProgressService: where trainers tell how far they are.

Who a token belongs to is the backend's to know.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

import grpc
from aisandbox.v1 import training_progress_pb2 as pb
from aisandbox_access import Audit
from aisandbox_process.grpc_context import text_metadata

from aisandbox_api.backend import Backend
from aisandbox_api.errors import ReportRefused
from aisandbox_api.output_files import OutputFiles
from aisandbox_api.requests import progress_report
from aisandbox_api.status_codes import abort_on_error, status_of
from aisandbox_api.trainer_auth import token_of_trainer

REPORT_METHOD = "/aisandbox.v1.TrainingProgressService/Report"
PUBLISH_METHOD = "/aisandbox.v1.TrainingProgressService/PublishOutput"


class Observer(Protocol):
    """Observes accepted and refused reports."""

    def observe_report(self) -> None:
        """A report was accepted."""

    def observe_refusal(self, status: str) -> None:
        """A report was refused with this gRPC status."""


class ProgressServicer:
    """The methods have the names and signatures of the generated servicer.

    ``outputs``: what moves final models; None: nothing does.
    """

    def __init__(
        self, backend: Backend, observer: Observer, audit: Audit | None = None, outputs: OutputFiles | None = None
    ) -> None:
        self._backend = backend
        self._outputs = outputs
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
                self._observer.observe_refusal(status_of(error)[0].name)
                self._record(error, context, REPORT_METHOD, request.run_id)
                raise
            self._observer.observe_report()
            return pb.ReportResponse()

    async def PublishOutput(  # noqa: N802
        self, request: pb.PublishOutputRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.PublishOutputResponse:
        """See the proto."""
        async with abort_on_error(context):
            token = token_of_trainer(text_metadata(context.invocation_metadata()))
            try:
                run = await self._backend.run_of_trainer(request.run_id, token)
            except Exception as error:
                self._record(error, context, PUBLISH_METHOD, request.run_id)
                raise
            if self._outputs is not None and run.spec.model_output_path:
                if request.check_only:
                    await asyncio.to_thread(self._outputs.check, run)
                else:
                    await asyncio.to_thread(self._outputs.publish, run, request.attempt)
            return pb.PublishOutputResponse()

    def _record(self, error: Exception, context: grpc.aio.ServicerContext[Any, Any], method: str, run: str) -> None:
        if self._audit is not None and isinstance(error, ReportRefused):
            status = status_of(error)[0].name
            self._audit.record_refusal("", context.peer(), method, run, status, str(error))

"""The final model at the run's ``model_output_path``: who moves it there, and what follows if that is refused.

The service does, since a trainer may reach no other folder than its run's. A trainer that reports to no service, or to
one of an earlier version, writes the file itself. Must not know what is in the file.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import grpc
import structlog
from aisandbox.v1 import training_progress_pb2 as pb
from aisandbox.v1.training_progress_pb2_grpc import TrainingProgressServiceStub
from aisandbox_crds import TrainerStart
from aisandbox_model_store import DiskFull, Writer
from aisandbox_process.grpc_options import channel_options
from aisandbox_process.grpc_tls import open_channel
from aisandbox_process.tls import InvalidChannelSecurity

from aisandbox_trainer.errors import OutputNotPublished, OutputRefused
from aisandbox_trainer.runtime.service import Service
from aisandbox_trainer.runtime.stop import Stop

CALL_SECONDS = 30.0
CHECK_SECONDS = 5.0
PATIENCE_SECONDS = 300.0
PAUSE_SECONDS = 2.0
_REFUSALS = (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.INVALID_ARGUMENT)

log = structlog.get_logger(__name__)


class Output(Protocol):
    """Where the final model goes."""

    def check(self) -> None:
        """Before the training: raises OutputRefused if the file will not be accepted, as far as that is known now."""

    def write(self, path: str, data: bytes | Path) -> None:
        """Writes the file, a copy of ``data`` if that is a path.

        Raises OutputRefused, OutputNotPublished, StopRequested, and what the writer raises.
        """


class OwnOutput:
    """Written by the trainer itself."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def check(self) -> None:
        """Nothing is known."""

    def write(self, path: str, data: bytes | Path) -> None:
        """Writes the file."""
        self._writer.write_output(path, data)


class ServiceOutput:
    """Prepared in the run's folder, and moved by the service."""

    def __init__(
        self, service: Service, writer: Writer, stop: Stop, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._service = service
        self._writer = writer
        self._stop = stop
        self._clock = clock

    def check(self) -> None:
        """Asks once; a service that does not answer is asked at the end."""
        try:
            self._call(CHECK_SECONDS, check_only=True)
        except (grpc.RpcError, InvalidChannelSecurity) as error:
            if _code(error) in _REFUSALS:
                self._writer.check_fencing_token()
                raise OutputRefused(_details(error)) from error
            log.info("the service was not asked about the final model", error=_details(error))

    def write(self, path: str, data: bytes | Path) -> None:
        """Tries again for PATIENCE_SECONDS while the service does not answer."""
        self._writer.prepare_output(data)
        end = self._clock() + PATIENCE_SECONDS
        while True:
            try:
                self._call(CALL_SECONDS)
                return
            except (grpc.RpcError, InvalidChannelSecurity) as error:
                code = _code(error)
                if code is grpc.StatusCode.UNIMPLEMENTED:
                    self._writer.write_output(path, data)  # of an earlier version, and so is the volume's mount
                    return
                if code in _REFUSALS:
                    self._writer.check_fencing_token()
                    raise OutputRefused(_details(error)) from error
                if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
                    raise DiskFull(self._writer.run.path) from error
                if self._clock() >= end:
                    raise OutputNotPublished(
                        f"the service has not moved the final model to {path!r} for {PATIENCE_SECONDS:.0f} s: "
                        f"{_details(error)}"
                    ) from error
                log.warning("the service does not move the final model yet", error=_details(error))
            self._stop.sleep(PAUSE_SECONDS)

    def _call(self, seconds: float, *, check_only: bool = False) -> None:
        request = pb.PublishOutputRequest(
            run_id=self._service.run_id, attempt=self._writer.attempt, check_only=check_only
        )
        with open_channel(self._service.address, self._service.security, channel_options(ping_seconds=60)) as channel:
            stub = TrainingProgressServiceStub(channel)
            stub.PublishOutput(request, timeout=seconds, metadata=self._service.credential())


def output_of(start: TrainerStart, writer: Writer, stop: Stop) -> Output:
    """The output of a run."""
    service = Service.of(start)
    return OwnOutput(writer) if service is None else ServiceOutput(service, writer, stop)


def _code(error: Exception) -> grpc.StatusCode | None:
    return error.code() if isinstance(error, grpc.Call) else None


def _details(error: Exception) -> str:
    return str(error.details() if isinstance(error, grpc.Call) else error)

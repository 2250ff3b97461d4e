"""The backend protocol: what the service needs from what stores and trains runs.

Owns the protocol and its values. Two backends implement it: :mod:`aisandbox_api.local` (a run is a folder and
a child process) and :mod:`aisandbox_api.kubernetes` (a run is a TrainingRun resource). Must not know gRPC.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from aisandbox_crds import ProgressReport, TrainingRun


class Backend(Protocol):
    """Stores runs, has them trained, and reports their status.

    A returned run is a snapshot. What create, cancel, suspend and resume return is durable. Every call but start and
    close may raise BackendUnavailable.
    """

    async def open(self) -> None:
        """Opens the stored runs, without starting anything. Raises StartupError."""

    async def start(
        self, progress_address: str, adapter_address: str | None, session_socket: Path | None = None
    ) -> None:
        """Begins to have runs trained; trainers report to one address and find an adapter at the other.

        ``session_socket``: where those on this machine have sessions with attached simulators.
        """

    async def close(self) -> None:
        """Stops what this process has started, so that unfinished runs can be continued. Ends all watches."""

    @property
    def unready(self) -> str:
        """Why the service should get no calls at present, in words; empty while it should. Health depends on it."""

    async def create(self, run: TrainingRun) -> TrainingRun:
        """Accepts a run; one of the same name is returned unchanged. Raises LimitReached."""

    async def get(self, name: str) -> TrainingRun:
        """The run as it is now. Raises RunUnknown."""

    async def find_request(self, request_id: str, owner: str = "") -> TrainingRun | None:
        """The run that ``owner`` has started with this request_id."""

    async def list(self) -> Sequence[TrainingRun]:
        """Every run, in any order."""

    def watch(self, name: str) -> AsyncIterator[TrainingRun]:
        """The run now and after every change, coalesced to at most 10 a second; ends after a phase that is done.

        Raises RunUnknown, ServiceStopping.
        """

    async def cancel(self, name: str) -> TrainingRun:
        """Cancels the run. Raises RunUnknown, RunDone (unless it is cancelled already)."""

    async def suspend(self, name: str) -> TrainingRun:
        """Suspends the run. Raises RunUnknown, RunDone."""

    async def resume(self, name: str) -> TrainingRun:
        """Resumes the run. Raises RunUnknown, RunDone."""

    async def report(self, name: str, report: ProgressReport, token: str | None) -> None:
        """Takes a trainer's report. Raises RunUnknown, ReportRefused."""

    async def run_of_trainer(self, name: str, token: str | None) -> TrainingRun:
        """The run, whose trainer was given ``token``. Raises RunUnknown, ReportRefused."""


@runtime_checkable
class PodLister(Protocol):
    """What a backend on a cluster has beside."""

    async def list_service_pods(self, service: str, port: str) -> frozenset[str]:
        """host:port of the ready pods of a Service. Raises BackendUnavailable, ClusterRefused."""

"""How far the attempt is, told to the api-server by a thread of its own.

Owns the snapshot and when it is sent. Training never waits for it: fields are plain assignments, the thread samples
them, and an api-server that does not answer costs a log line. Must not know what is trained.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import structlog
from aisandbox.v1 import training_progress_pb2 as pb
from aisandbox_crds.status import Activity, Artifact, ProgressReport
from aisandbox_crds.trainer_start import TrainerStart
from aisandbox_wire.dataclass_messages import message_fields

if TYPE_CHECKING:
    from aisandbox.v1.training_progress_pb2_grpc import TrainingProgressServiceStub

INTERVAL_SECONDS = 0.5
FPS_WINDOW_SECONDS = 15.0
CALL_TIMEOUT_SECONDS = 5.0
LAST_REPORT_SECONDS = 2.0
LOG_EVERY_SECONDS = 60.0

log = structlog.get_logger(__name__)

_STATE = [field.name for field in fields(ProgressReport) if field.name not in ("attempt", "fps")]
"""The fields of a report that :class:`Progress` has."""


@dataclass(slots=True)
class Progress:
    """The state of the attempt; every field is replaced whole, so another thread may read at any time.

    ``model`` is the SB3 algorithm once there is one: its step counter and its last 100 episodes are read from it.
    ``stored_reward_mean`` stands for the latter where a run is finished and nothing is learned any more.
    """

    activity: Activity = Activity.STARTING
    warning: str = ""
    unsaved: str = ""
    model: Any = None
    latest_checkpoint: Artifact | None = None
    latest_model: Artifact | None = None
    best_model: Artifact | None = None
    resumed_from: Artifact | None = None
    evaluation_reward_mean: float | None = None
    stored_reward_mean: float | None = None

    @property
    def timesteps(self) -> int:
        """Environment steps done."""
        if self.model is not None:
            return int(self.model.num_timesteps)
        return self.resumed_from.timesteps if self.resumed_from else 0

    @property
    def episode_reward_mean(self) -> float | None:
        """The mean return of the last training episodes, if there were any."""
        return mean_of(self.model, "r") if self.model is not None else self.stored_reward_mean

    @property
    def episode_length_mean(self) -> float | None:
        """The mean length of the same episodes, in environment steps."""
        return mean_of(self.model, "l")

    def report(self, attempt: int, fps: float = 0.0) -> ProgressReport:
        """The snapshot; a field of ProgressReport is the attribute of the same name."""
        return ProgressReport(attempt=attempt, fps=fps, **{name: getattr(self, name) for name in _STATE})


class Rate:
    """Steps a second over the last seconds, from samples of a counter that may be set back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._samples: deque[tuple[float, int]] = deque()

    def sample(self, timesteps: int) -> float:
        """Takes the counter's value now, returns the rate; 0 until there are two samples."""
        now = self._clock()
        if self._samples and timesteps < self._samples[-1][1]:
            self._samples.clear()
        self._samples.append((now, timesteps))
        # One sample older than the window stays, so that the window is full also when samples are far apart.
        while len(self._samples) > 2 and self._samples[1][0] < now - FPS_WINDOW_SECONDS:
            self._samples.popleft()
        then, before = self._samples[0]
        return (timesteps - before) / (now - then) if now > then else 0.0


class Reporter:
    """Sends the snapshot when it has changed, at most twice a second; without an address it does nothing."""

    def __init__(self, start: TrainerStart, attempt: int, progress: Progress) -> None:
        self._start = start
        self._attempt = attempt
        self._progress = progress
        self._rate = Rate()
        self._sent: ProgressReport | None = None
        self._wake = threading.Event()
        self._closing = False
        self._logged_at = -math.inf
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Starts the thread, which opens the channel: never before a fork."""
        if self._start.progress_address:
            self._thread = threading.Thread(
                target=self._run, args=(self._start.progress_address,), name="progress", daemon=True
            )
            self._thread.start()

    def close(self) -> None:
        """Sends a last snapshot and ends the thread; waits no longer than LAST_REPORT_SECONDS."""
        if self._thread is not None:
            self._closing = True
            self._wake.set()
            self._thread.join(LAST_REPORT_SECONDS)

    def _run(self, address: str) -> None:
        import grpc
        from aisandbox.v1.training_progress_pb2_grpc import TrainingProgressServiceStub

        options = [("grpc.max_reconnect_backoff_ms", 2000), ("grpc.enable_http_proxy", 0)]
        with grpc.insecure_channel(address, options=options) as channel:
            stub = TrainingProgressServiceStub(channel)
            while not self._closing:
                self._send(stub, CALL_TIMEOUT_SECONDS)
                self._wake.wait(INTERVAL_SECONDS)
            self._send(stub, LAST_REPORT_SECONDS)

    def _send(self, stub: TrainingProgressServiceStub, timeout: float) -> None:
        import grpc

        try:
            fps = self._rate.sample(self._progress.timesteps)
            report = self._progress.report(self._attempt, fps)
            if report == self._sent:
                return
            request = pb.ReportRequest(run_id=self._start.run_id, **message_fields(pb.ReportRequest, report))
            stub.Report(request, timeout=timeout, metadata=self._metadata())
            self._sent = report
        except (grpc.RpcError, OSError, ValueError) as error:
            now = time.monotonic()
            if now - self._logged_at > LOG_EVERY_SECONDS:
                self._logged_at = now
                detail = error.details() if isinstance(error, grpc.Call) else str(error)
                log.warning("progress not reported", address=self._start.progress_address, error=detail)

    def _metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        token = self._start.progress_token
        if self._start.progress_token_file is not None:  # renewed under our feet: read each time
            token = self._start.progress_token_file.read_text().strip()
        return (("authorization", f"Bearer {token}"),) if token else ()


def mean_of(model: Any, what: str) -> float | None:
    """The mean of "r" (the return) or "l" (the length) over the model's last training episodes, if there are any."""
    values = [float(episode[what]) for episode in list(getattr(model, "ep_info_buffer", None) or ())]
    return math.fsum(values) / len(values) if values else None

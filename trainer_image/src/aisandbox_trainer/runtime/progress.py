"""How far the attempt is, told to the api-server by a thread of its own.

Owns the snapshot and when it is sent. Training never waits for it: fields are plain assignments, the thread samples
them, and an api-server that does not answer costs a log line. Must not know what is trained.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import structlog
from aisandbox.v1 import training_progress_pb2 as pb
from aisandbox_crds import Activity, Artifact, CloningProgress, EarlyStop, LessonProgress, ProgressReport, TrainerStart
from aisandbox_process.grpc_options import channel_options
from aisandbox_process.tls import InvalidChannelSecurity
from aisandbox_wire import message_fields

from aisandbox_trainer.runtime.service import Service

if TYPE_CHECKING:
    from aisandbox.v1.training_progress_pb2_grpc import TrainingProgressServiceStub

INTERVAL_SECONDS = 0.5
FPS_WINDOW_SECONDS = 15.0
CALL_TIMEOUT_SECONDS = 5.0
LAST_REPORT_SECONDS = 2.0
LOG_EVERY_SECONDS = 60.0
LONG_UPDATE_SECONDS = 2.0
"""An update is an activity of its own from here, and its time counts in a speed of its own."""
LONG_STEP_SECONDS = 5.0
"""A step that is not answered is an activity of its own from here."""

log = structlog.get_logger(__name__)

_STATE = [each.name for each in fields(ProgressReport) if each.name not in ("attempt", "fps")]
"""The fields of a report that :class:`ProgressTracker` has."""


@dataclass(slots=True)
class ProgressTracker:
    """The state of the attempt; every field is replaced whole, so another thread may read at any time.

    ``warning`` is about what is happening and is cleared by what follows; ``notices`` hold for the rest of the attempt
    and are reported behind it. ``timesteps_dropped`` are the steps of rollouts that were interrupted. ``cycle_fps`` is
    the speed over the last rollout and its update, if that update was a long one.

    ``model`` is the SB3 algorithm once there is one: its step counter and its last 100 episodes are read from it.
    ``plan`` has the lessons of the run, if there are any. ``stored_reward_mean`` stands for the mean return of the
    episodes where a run is finished and nothing is learned any more.
    """

    activity: Activity = Activity.STARTING
    warning: str = ""
    unsaved: str = ""
    model: Any = None
    plan: Any = None
    latest_checkpoint: Artifact | None = None
    latest_model: Artifact | None = None
    best_model: Artifact | None = None
    resumed_from: Artifact | None = None
    evaluation_reward_mean: float | None = None
    stored_reward_mean: float | None = None
    timesteps_dropped: int = 0
    early_stop: EarlyStop | None = None
    started_from: Artifact | None = None
    trained_algorithm: str | None = None
    cloning: CloningProgress | None = None
    notices: Mapping[str, str] = field(default_factory=dict)
    cycle_fps: float | None = None
    clock: Callable[[], float] = time.monotonic
    _collecting_since: float | None = None
    _collecting_from: int = 0
    _updating_since: float | None = None

    def set_notice(self, name: str, text: str) -> None:
        """Sets the notice ``name``; an empty text removes it."""
        others = {key: value for key, value in self.notices.items() if key != name}
        self.notices = {**others, name: text} if text else others

    def collecting_starts(self) -> None:
        """A rollout begins."""
        self._collecting_from = self.timesteps
        self._collecting_since = self.clock()

    def update_starts(self) -> None:
        """The rollout is complete, and an update begins."""
        self._updating_since = self.clock()

    def update_ends(self) -> None:
        """The update is done: measures the speed where it was long."""
        now = self.clock()
        began, updating = self._collecting_since, self._updating_since
        self._collecting_since = self._updating_since = None
        if began is None or updating is None or now - updating < LONG_UPDATE_SECONDS:
            self.cycle_fps = None
        else:
            self.cycle_fps = (self.timesteps - self._collecting_from) / (now - began)

    def work_stops(self) -> None:
        """A rollout or an update has been left by an error."""
        self._collecting_since = self._updating_since = None

    def shown_activity(self, unchanged_seconds: float) -> Activity:
        """The activity, more precise where it takes long; ``unchanged_seconds``: how long no step has been taken."""
        updating = self._updating_since
        if self.activity is not Activity.TRAINING:
            return self.activity
        if updating is not None:
            return Activity.UPDATING if self.clock() - updating >= LONG_UPDATE_SECONDS else self.activity
        if self._collecting_since is None:
            return self.activity
        waited = min(unchanged_seconds, self.clock() - self._collecting_since)
        return Activity.WAITING_FOR_STEP if waited >= LONG_STEP_SECONDS else self.activity

    @property
    def timesteps(self) -> int:
        """Environment steps done."""
        if self.model is not None:
            return int(self.model.num_timesteps)
        return self.resumed_from.timesteps if self.resumed_from else 0

    @property
    def own_timesteps(self) -> int:
        """The steps of this attempt; the others are of the checkpoint, which is known before there is a model."""
        if self.model is None:
            return 0
        return self.timesteps - (self.resumed_from.timesteps if self.resumed_from else 0)

    @property
    def episode_reward_mean(self) -> float | None:
        """The mean return of the last training episodes, if there were any."""
        return mean_of(self.model, "r") if self.model is not None else self.stored_reward_mean

    @property
    def episode_length_mean(self) -> float | None:
        """The mean length of the same episodes, in environment steps."""
        return mean_of(self.model, "l")

    @property
    def lesson(self) -> LessonProgress | None:
        """The lesson that the run is in, if it has lessons."""
        return None if self.plan is None else self.plan.progress()

    def report(self, attempt: int, fps: float = 0.0) -> ProgressReport:
        """The snapshot; a field of ProgressReport is the attribute of the same name."""
        state = {name: getattr(self, name) for name in _STATE}
        state["warning"] = "; ".join(filter(None, (self.warning, *self.notices.values())))
        return ProgressReport(attempt=attempt, fps=fps, **state)


class Rate:
    """Steps a second over the last seconds, from samples of a counter that may be set back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._samples: deque[tuple[float, int]] = deque()
        self._value = 0.0
        self._changed_at = clock()
        self._last: int | None = None

    @property
    def value(self) -> float:
        """The rate at the last sample."""
        return self._value

    def unchanged_seconds(self, timesteps: int) -> float:
        """How long the counter has had this value."""
        now = self._clock()
        if timesteps != self._last:
            self._last, self._changed_at = timesteps, now
        return now - self._changed_at

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
        self._value = (timesteps - before) / (now - then) if now > then else 0.0
        return self._value


class Reporter:
    """Sends the snapshot when it has changed, at most twice a second; without an address it does nothing."""

    def __init__(self, start: TrainerStart, attempt: int, progress: ProgressTracker) -> None:
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
        if (service := Service.of(self._start)) is not None:
            self._thread = threading.Thread(target=self._run, args=(service,), name="progress", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Sends a last snapshot and ends the thread; waits no longer than LAST_REPORT_SECONDS."""
        if self._thread is not None:
            self._closing = True
            self._wake.set()
            self._thread.join(LAST_REPORT_SECONDS)

    def _run(self, service: Service) -> None:
        from aisandbox.v1.training_progress_pb2_grpc import TrainingProgressServiceStub
        from aisandbox_process.grpc_tls import open_channel

        options = channel_options(ping_seconds=60, reconnect_seconds=2)
        while not self._closing:
            try:
                # A channel reads the file of authorities once: after a failure another channel does.
                with open_channel(service.address, service.security, options) as channel:
                    stub = TrainingProgressServiceStub(channel)
                    self._send_all(stub, service)
            except InvalidChannelSecurity as error:
                self._log_failure(str(error))
                self._wake.wait(INTERVAL_SECONDS)

    def _send_all(self, stub: TrainingProgressServiceStub, service: Service) -> None:
        sent = True
        while not self._closing:
            if not sent and service.security.tls:
                return
            sent = self._send(stub, service, CALL_TIMEOUT_SECONDS)
            self._wake.wait(INTERVAL_SECONDS)
        self._send(stub, service, LAST_REPORT_SECONDS)

    def _send(self, stub: TrainingProgressServiceStub, service: Service, timeout: float) -> bool:
        """Whether the service knows the snapshot now."""
        import grpc

        try:
            report = self._snapshot()
            if report != self._sent:
                request = pb.ReportRequest(run_id=self._start.run_id, **message_fields(pb.ReportRequest, report))
                stub.Report(request, timeout=timeout, metadata=service.credential())
                self._sent = report
        except (grpc.RpcError, OSError, ValueError) as error:
            self._log_failure(error.details() if isinstance(error, grpc.Call) else str(error))
            return False
        return True

    def _log_failure(self, problem: str) -> None:
        now = time.monotonic()
        if now - self._logged_at > LOG_EVERY_SECONDS:
            self._logged_at = now
            log.warning("progress not reported", address=self._start.progress_address, error=problem)

    def _snapshot(self) -> ProgressReport:
        """The report now. While no step can be taken, the speed stays as it was: the activity says why."""
        progress = self._progress
        timesteps = progress.timesteps
        activity = progress.shown_activity(self._rate.unchanged_seconds(timesteps))
        waits = activity in (Activity.UPDATING, Activity.WAITING_FOR_STEP)
        fps = self._rate.value if waits else self._rate.sample(progress.own_timesteps)
        if activity is not Activity.STARTING and progress.cycle_fps is not None:
            fps = progress.cycle_fps
        return replace(progress.report(self._attempt, fps), activity=activity)


def mean_of(model: Any, what: str) -> float | None:
    """The mean of "r" (the return) or "l" (the length) over the model's last training episodes, if there are any."""
    values = [float(episode[what]) for episode in list(getattr(model, "ep_info_buffer", None) or ())]
    return math.fsum(values) / len(values) if values else None

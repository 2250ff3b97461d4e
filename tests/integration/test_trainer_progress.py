"""Progress reports over loopback: what arrives, and that nothing waits for them."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from aisandbox.v1 import training_progress_pb2 as pb
from aisandbox.v1 import training_progress_pb2_grpc as services
from aisandbox_crds.spec import Algorithm, TrainingRunSpec
from aisandbox_crds.status_values import Activity
from aisandbox_crds.trainer_start import TrainerStart
from aisandbox_trainer.runtime import progress as progress_module
from aisandbox_trainer.runtime.progress import ProgressTracker, Reporter


class Listener(services.TrainingProgressServiceServicer):
    def __init__(self) -> None:
        self.reports: list[pb.ReportRequest] = []
        self.tokens: list[Any] = []
        self.called = threading.Event()
        self.hang = threading.Event()
        self.refuse = False
        self.hang.set()

    def Report(self, request: pb.ReportRequest, context: grpc.ServicerContext) -> pb.ReportResponse:
        self.called.set()
        self.hang.wait(600)
        self.reports.append(request)
        self.tokens.append(dict(context.invocation_metadata()).get("authorization"))
        if self.refuse:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "no")
        return pb.ReportResponse()

    def PublishOutput(
        self, request: pb.PublishOutputRequest, context: grpc.ServicerContext
    ) -> pb.PublishOutputResponse:
        return pb.PublishOutputResponse()


@pytest.fixture
def listener() -> Iterator[tuple[Listener, str]]:
    listener = Listener()
    server = grpc.server(ThreadPoolExecutor(4))
    services.add_TrainingProgressServiceServicer_to_server(listener, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield listener, f"127.0.0.1:{port}"
    listener.hang.set()
    server.stop(0)


def _reporter(address: str | None, progress: ProgressTracker, **start: Any) -> Reporter:
    folder = Path("/nowhere")
    spec = TrainingRunSpec(Algorithm.PPO, 10)
    reporter = Reporter(
        TrainerStart("run-1", None, spec, folder, folder, progress_address=address, **start), 3, progress
    )
    reporter.start()
    return reporter


def _wait_until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


def test_reports_are_snapshots_with_the_newest_last(listener: tuple[Listener, str]) -> None:
    heard, address = listener
    progress = ProgressTracker()
    reporter = _reporter(address, progress, progress_token="secret")
    _wait_until(lambda: heard.reports)
    model = SimpleNamespace(num_timesteps=100, ep_info_buffer=deque([{"r": 1.0, "l": 5}, {"r": 2.0, "l": 7}]))
    progress.model = model
    progress.activity = Activity.TRAINING
    _wait_until(lambda: heard.reports[-1].timesteps == 100)
    model.num_timesteps = 4000
    progress.warning = "the disk is full"
    reporter.close()

    first, last = heard.reports[0], heard.reports[-1]
    assert (first.run_id, first.attempt, first.activity) == ("run-1", 3, pb.TRAINER_ACTIVITY_STARTING)
    assert not first.HasField("episode_reward_mean")
    assert (last.timesteps, last.episode_reward_mean, last.episode_length_mean) == (4000, 1.5, 6.0)
    assert last.warning == "the disk is full"
    assert last.fps > 0
    assert set(heard.tokens) == {"Bearer secret"}


def test_token_file_is_read_each_time(listener: tuple[Listener, str], tmp_path: Path) -> None:
    heard, address = listener
    token = tmp_path / "token"
    token.write_text("first\n")
    progress = ProgressTracker()
    reporter = _reporter(address, progress, progress_token_file=token)
    _wait_until(lambda: heard.tokens)
    token.write_text("second\n")
    progress.warning = "changed"
    reporter.close()
    assert (heard.tokens[0], heard.tokens[-1]) == ("Bearer first", "Bearer second")


def test_reports_that_are_refused_are_only_logged(listener: tuple[Listener, str]) -> None:
    heard, address = listener
    heard.refuse = True
    reporter = _reporter(address, ProgressTracker())
    _wait_until(lambda: len(heard.reports) >= 2)
    reporter.close()


def test_end_does_not_wait_for_a_report_that_hangs(
    listener: tuple[Listener, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_module, "LAST_REPORT_SECONDS", 0.1)
    monkeypatch.setattr(progress_module, "CALL_TIMEOUT_SECONDS", 600.0)
    heard, address = listener
    heard.hang.clear()
    before = set(threading.enumerate())
    reporter = _reporter(address, ProgressTracker())
    (thread,) = (each for each in set(threading.enumerate()) - before if each.name == "progress")
    assert heard.called.wait(60)
    reporter.close()
    assert thread.is_alive(), "only the end of the report lets it go on"
    heard.hang.set()
    thread.join(60)
    assert not thread.is_alive()


def test_nothing_is_reported_without_an_address() -> None:
    before = set(threading.enumerate())
    reporter = _reporter(None, ProgressTracker())
    assert set(threading.enumerate()) <= before
    reporter.close()

"""The final model leaves the run's folder by the service: what a trainer asks it for, and what follows."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from aisandbox.v1 import training_progress_pb2 as pb
from aisandbox.v1 import training_progress_pb2_grpc as services
from aisandbox_crds import Algorithm, TrainerStart, TrainingRunSpec
from aisandbox_model_store import DiskFull, Fenced, RunStore
from aisandbox_trainer.errors import OutputNotPublished, OutputRefused
from aisandbox_trainer.runtime import service as services_of_trainers
from aisandbox_trainer.runtime.output import OwnOutput, ServiceOutput, output_of
from aisandbox_trainer.runtime.stop import Stop

Code = grpc.StatusCode


class Service(services.TrainingProgressServiceServicer):
    """Answers with these codes, then with success."""

    def __init__(self, *codes: grpc.StatusCode) -> None:
        self.codes = list(codes)
        self.asked: list[tuple[int, bool, bool]] = []
        self.prepared = Path("/nowhere")

    def Report(self, request: pb.ReportRequest, context: grpc.ServicerContext) -> pb.ReportResponse:
        return pb.ReportResponse()

    def PublishOutput(
        self, request: pb.PublishOutputRequest, context: grpc.ServicerContext
    ) -> pb.PublishOutputResponse:
        self.asked.append((request.attempt, request.check_only, self.prepared.exists()))
        if self.codes:
            context.abort(self.codes.pop(0), "because")
        return pb.PublishOutputResponse()


class Trainer:
    def __init__(self, folder: Path, address: str) -> None:
        spec = TrainingRunSpec(Algorithm.PPO, 100, model_output_path="out/w.zip")
        start = TrainerStart("walk", None, spec, folder, folder, progress_address=address, progress_token="t")
        self.writer = RunStore(folder).run("walk").claim(3)
        self.pauses: list[float] = []
        reached = services_of_trainers.Service.of(start)
        assert reached is not None
        clock = lambda: 100.0 * len(self.pauses)  # noqa: E731
        self.output = ServiceOutput(reached, self.writer, self, clock)  # type: ignore[arg-type]

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)


@pytest.fixture
def service() -> Iterator[tuple[Service, str]]:
    service = Service()
    server = grpc.server(ThreadPoolExecutor(2))
    services.add_TrainingProgressServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield service, f"127.0.0.1:{port}"
    server.stop(0)


def test_service_that_is_away_is_asked_again(service: tuple[Service, str], tmp_path: Path) -> None:
    trainer = Trainer(tmp_path, service[1])
    service[0].prepared = trainer.writer.run.path / "output.zip"
    service[0].codes = [Code.UNAVAILABLE, Code.UNAUTHENTICATED]
    trainer.output.check()
    trainer.output.write("out/w.zip", b"model")
    assert service[0].asked == [(3, True, False), (3, False, True), (3, False, True)]
    assert service[0].prepared.read_bytes() == b"model"
    assert len(trainer.pauses) == 1


@pytest.mark.parametrize("code", [Code.FAILED_PRECONDITION, Code.INVALID_ARGUMENT])
def test_refusal_ends_the_run_before_it_trains_and_at_its_end(
    service: tuple[Service, str], tmp_path: Path, code: grpc.StatusCode
) -> None:
    trainer = Trainer(tmp_path, service[1])
    service[0].codes = [code, code, code]
    with pytest.raises(OutputRefused, match="because"):
        trainer.output.check()
    with pytest.raises(OutputRefused, match="because"):
        trainer.output.write("out/w.zip", b"model")
    RunStore(tmp_path).run("walk").claim(4)
    with pytest.raises(Fenced):
        trainer.output.check()


def test_service_that_stays_away_ends_the_attempt_and_a_full_disk_is_waited_for(
    service: tuple[Service, str], tmp_path: Path
) -> None:
    trainer = Trainer(tmp_path, service[1])
    service[0].codes = [Code.RESOURCE_EXHAUSTED]
    with pytest.raises(DiskFull):
        trainer.output.write("out/w.zip", b"model")
    service[0].codes = [Code.INTERNAL] * 10
    with pytest.raises(OutputNotPublished, match="because"):
        trainer.output.write("out/w.zip", b"model")
    assert len(trainer.pauses) == 3


def test_trainer_writes_itself_for_a_service_of_an_earlier_version_or_none(
    service: tuple[Service, str], tmp_path: Path
) -> None:
    trainer = Trainer(tmp_path, service[1])
    service[0].codes = [Code.UNIMPLEMENTED, Code.UNIMPLEMENTED]
    trainer.output.check()
    trainer.output.write("out/w.zip", b"model")
    assert (tmp_path / "out" / "w.zip").read_bytes() == b"model"
    start = TrainerStart("walk", None, TrainingRunSpec(Algorithm.PPO, 100), tmp_path, tmp_path)
    assert isinstance(output_of(start, trainer.writer, Stop()), OwnOutput)

"""The service as a process: killed, restarted, drained, crowded, with trainers that follow a script."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1.policy_trainer_pb2_grpc import PolicyTrainerServiceStub

SCRIPTED_TRAINER = Path(__file__).parents[1] / "contract" / "scripted_trainer.py"
FOREVER = 10**9
PATIENCE_SECONDS = 40.0

MAIN = """
import asyncio, os, sys
from aisandbox_api import Settings, StartupError, create_server
from aisandbox_api.local import LocalBackend
from aisandbox_api.local.launcher import ProcessLauncher
from aisandbox_api.local.warm_launcher import TrainerProgram, WarmLauncher
from aisandbox_process import log

async def main():
    trainer, kind = sys.argv[1:3]
    settings = Settings.from_environ(os.environ)
    plain = ProcessLauncher([sys.executable, trainer, "run"])
    program = TrainerProgram("scripted_trainer", "scripted_trainer:check", "scripted_trainer:run_forked")
    warm = WarmLauncher(plain, program, pause_seconds=0.1)
    server = create_server(settings, backend=LocalBackend(settings, plain if kind == "process" else warm))
    serving = asyncio.create_task(server.serve())
    while not server.port and not serving.done():
        await asyncio.sleep(0.01)
    print(server.port, flush=True)
    await serving

log.configure("info")
try:
    asyncio.run(main())
except StartupError as error:
    sys.exit(f"error: {error}")
"""


class ServiceProcess:
    """A service in a process of its own on ``models_dir``."""

    def __init__(self, models_dir: Path, launcher: str = "process", port: int = 0) -> None:
        self.models_dir = models_dir
        self.launcher = launcher
        self.port = port
        self.process: asyncio.subprocess.Process
        self.channel: grpc.aio.Channel
        self.stub: Any

    async def start(self) -> None:
        environ = {**os.environ, "MODELS_DIR": str(self.models_dir), "GRPC_PORT": str(self.port)}
        environ |= {"STOP_GRACE_SECONDS": "10", "MAX_CONCURRENT_RUNS": "4"}
        environ["PYTHONPATH"] = os.pathsep.join((str(SCRIPTED_TRAINER.parent), environ.get("PYTHONPATH", "")))
        with (self.models_dir / "service.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", MAIN, str(SCRIPTED_TRAINER), self.launcher,
                env=environ, stdout=asyncio.subprocess.PIPE, stderr=log,
            )  # fmt: skip
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            self.port = int(await self.process.stdout.readline())
        self.channel = grpc.aio.insecure_channel(
            f"127.0.0.1:{self.port}", options=[("grpc.use_local_subchannel_pool", 1)]
        )
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self.channel.channel_ready()
        self.stub = PolicyTrainerServiceStub(self.channel)

    async def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        async with asyncio.timeout(PATIENCE_SECONDS):
            code = await self.process.wait()
            assert self.process.stdout is not None
            await self.process.stdout.read()  # ends when no process that it has started holds its stdout any more
        await self.channel.close()
        return code

    def log(self) -> str:
        return (self.models_dir / "service.log").read_text()

    async def begin(self, *script: str, total: int = FOREVER, **kwargs: Any) -> str:
        request = pb.TrainingRequest(experiment_id="lander", total_timesteps=total)
        request.environment.gymnasium.id = "Scripted-v0"
        request.environment.gymnasium.kwargs.update({"script": list(script) or ["train"], **kwargs})
        return str((await self.stub.StartTrainingPPO(request)).run_id)

    async def status(self, run: str) -> Any:
        return await self.stub.GetTrainingStatus(pb.StatusRequest(run_id=run))

    async def until(self, run: str, holds: Callable[[Any], object]) -> Any:
        status = None
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not holds(status := await self.status(run)):  # noqa: ASYNC110 - a state of another process
                    await asyncio.sleep(0.02)
        except TimeoutError:
            pytest.fail(f"not within {PATIENCE_SECONDS} s; last status: {status}\n{self.log()}")
        return status

    def trainer_pids(self) -> list[int]:
        return self.pids("trainer started")

    def fork_server_pids(self) -> list[int]:
        return self.pids("fork server is ready")

    def pids(self, event: str) -> list[int]:
        events = [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]
        return [each["pid"] for each in events if each["event"] == event]


@pytest.fixture(params=["process", "warm"])
async def service(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ServiceProcess]:
    process = ServiceProcess(tmp_path, request.param)
    await process.start()
    yield process
    if process.process.returncode is None:
        await process.end(signal.SIGTERM)


async def until(holds: Callable[[], object], what: str) -> None:
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not holds():  # noqa: ASYNC110 - a state of another process
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"not within {PATIENCE_SECONDS} s: {what}")


def alive(pid: int) -> bool:
    """Whether it runs: a zombie, whose parent has not looked yet, does not."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


async def test_killed_service_continues_its_runs_after_a_restart(service: ServiceProcess) -> None:
    run = await service.begin()
    before = await service.until(run, lambda status: status.HasField("latest_checkpoint"))
    paused = await service.begin()
    await service.stub.SuspendTraining(pb.SuspendTrainingRequest(run_id=paused))
    await service.until(paused, lambda status: status.phase == pb.PHASE_SUSPENDED)
    trainers = service.trainer_pids()
    await service.end(signal.SIGKILL)
    await until(lambda: not any(map(alive, trainers)), "the old trainers stop by themselves")

    await service.start()
    after = await service.until(
        run, lambda status: status.phase == pb.PHASE_RUNNING and status.HasField("resumed_from")
    )
    assert after.resumed_from.timesteps >= before.latest_checkpoint.timesteps
    assert (await service.status(paused)).phase == pb.PHASE_SUSPENDED
    assert (after.seed, after.create_time) == (before.seed, before.create_time)


async def test_drained_service_leaves_its_runs_after_a_checkpoint(service: ServiceProcess) -> None:
    run = await service.begin()
    await service.until(run, lambda status: status.timesteps_done > 0)
    trainers = service.trainer_pids()
    assert await service.end(signal.SIGTERM) == 0
    assert not any(map(alive, trainers))
    record = json.loads((service.models_dir / "runs" / run / "trainingrun.json").read_text())
    assert record["status"]["phase"] == "Pending"
    saved = record["status"]["latestCheckpoint"]["timesteps"]
    assert saved == record["status"]["progress"]["timesteps"]

    await service.start()
    after = await service.until(run, lambda status: status.timesteps_done > saved)
    assert (after.resumed_from.timesteps, after.restarts, after.timesteps_lost) == (saved, 0, 0)


async def test_drained_service_ends_its_watches_with_unavailable(service: ServiceProcess) -> None:
    run = await service.begin()
    watch = service.stub.WatchTraining(pb.WatchTrainingRequest(run_id=run))
    await watch.read()
    ended = asyncio.create_task(service.end(signal.SIGTERM))
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await read_to_the_end(watch)
    assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE
    assert await ended == 0


async def read_to_the_end(call: Any) -> None:
    while await call.read() is not grpc.aio.EOF:
        pass


@pytest.mark.parametrize("service", ["process"], indirect=True)
async def test_damaged_record_is_renamed_and_stops_no_other(service: ServiceProcess) -> None:
    good, bad = await service.begin(total=20), await service.begin(total=20)
    for run in (good, bad):
        await service.until(run, lambda status: status.is_done)
    await service.end(signal.SIGKILL)
    record = service.models_dir / "runs" / bad / "trainingrun.json"
    record.write_bytes(record.read_bytes()[:50])

    await service.start()
    assert (await service.status(good)).phase == pb.PHASE_SUCCEEDED
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await service.status(bad)
    assert refusal.value.code() is grpc.StatusCode.NOT_FOUND
    assert "damaged" in str(refusal.value.details())
    assert [path.read_bytes() for path in record.parent.glob("trainingrun.json.damaged-*")]
    assert "damaged and was renamed" in service.log()


@pytest.mark.parametrize("service", ["process"], indirect=True)
async def test_second_service_on_the_same_folder_is_refused(service: ServiceProcess) -> None:
    code, text = await refused_start({"MODELS_DIR": str(service.models_dir), "GRPC_PORT": "0"})
    assert code == 1
    assert "is in use by another AISandbox service" in text
    assert f"process {service.process.pid} " in text
    await service.until(await service.begin(total=20), lambda status: status.is_done)


@pytest.mark.parametrize("service", ["process"], indirect=True)
async def test_second_service_on_the_same_port_is_refused_by_name(service: ServiceProcess, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    code, text = await refused_start({"MODELS_DIR": str(other), "GRPC_PORT": str(service.port)})
    assert code == 1
    assert f"cannot listen on 127.0.0.1:{service.port}" in text
    assert "GRPC_PORT" in text


async def test_port_of_another_program_is_refused_by_name(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, text = await refused_start({"MODELS_DIR": str(tmp_path), "GRPC_PORT": str(port)})
    assert code == 1
    assert f"127.0.0.1:{port}" in text


async def test_bad_setting_is_refused_by_name(tmp_path: Path) -> None:
    code, text = await refused_start({"MODELS_DIR": str(tmp_path), "MAX_CONCURRENT_RUNS": "none"})
    assert (code, text.count("\n")) == (1, 1)
    assert "MAX_CONCURRENT_RUNS" in text


async def refused_start(environ: dict[str, str]) -> tuple[int | None, str]:
    """`python -m aisandbox_api` with these variables: its exit code and the error it prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "aisandbox_api",
        env={**os.environ, "TRAINER_LAUNCHER": "process", **environ}, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(PATIENCE_SECONDS):
        _, errors = await process.communicate()
    lines = [line for line in errors.decode().splitlines(keepends=True) if not line.startswith("{")]
    return process.returncode, "".join(lines)


async def test_killed_and_stopped_trainers_are_started_again(service: ServiceProcess) -> None:
    run = await service.begin("kill", "terminate", "train", total=200)
    status = await service.until(run, lambda status: status.is_done)
    assert (status.phase, status.restarts) == (pb.PHASE_SUCCEEDED, 2)
    record = json.loads((service.models_dir / "runs" / run / "trainingrun.json").read_text())
    assert record["status"]["restartsCountTowardsMax"] == 1  # a SIGTERM from outside is no failure of the trainer


@pytest.mark.parametrize("service", ["warm"], indirect=True)
async def test_killed_fork_server_affects_no_run_and_is_replaced(service: ServiceProcess) -> None:
    run = await service.begin()
    await service.until(run, lambda status: status.phase == pb.PHASE_RUNNING)
    os.kill(service.fork_server_pids()[0], signal.SIGKILL)
    await until(lambda: len(service.fork_server_pids()) == 2, "a new fork server")
    at_kill = await service.status(run)
    later = await service.until(run, lambda status: status.timesteps_done > at_kill.timesteps_done + 50)
    assert (later.phase, later.restarts) == (pb.PHASE_RUNNING, 0)
    other = await service.begin(total=20)
    assert (await service.until(other, lambda status: status.is_done)).phase == pb.PHASE_SUCCEEDED
    await service.stub.CancelTraining(pb.CancelTrainingRequest(run_id=run))
    assert (await service.until(run, lambda status: status.is_done)).phase == pb.PHASE_CANCELLED


@pytest.mark.parametrize("service", ["warm"], indirect=True)
async def test_end_of_a_trainer_whose_fork_server_was_killed_is_known(service: ServiceProcess) -> None:
    run = await service.begin(total=800)
    await service.until(run, lambda status: status.phase == pb.PHASE_RUNNING)
    os.kill(service.fork_server_pids()[0], signal.SIGKILL)
    status = await service.until(run, lambda status: status.is_done)
    assert (status.phase, status.restarts) == (pb.PHASE_SUCCEEDED, 0)


@pytest.mark.parametrize("service", ["warm"], indirect=True)
async def test_trainers_of_a_killed_fork_server_stop_when_the_service_is_killed(service: ServiceProcess) -> None:
    run = await service.begin()
    await service.until(run, lambda status: status.phase == pb.PHASE_RUNNING)
    (server,), trainers = service.fork_server_pids(), service.trainer_pids()
    os.kill(server, signal.SIGKILL)
    await service.end(signal.SIGKILL)
    await until(lambda: not any(map(alive, trainers)), "the trainers stop by themselves")

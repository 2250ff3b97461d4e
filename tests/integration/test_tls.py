"""The servers with TLS: their ports, what they say to each other, and simulators that attach; certificates renewed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import aisandbox_inference
import grpc
import numpy as np
import pytest
import structlog
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1 import policy_trainer_pb2_grpc, training_progress_pb2, training_progress_pb2_grpc
from aisandbox_api import Server, Settings, create_server
from aisandbox_api.local import LocalBackend
from aisandbox_crds import Algorithm, TrainerStart, TrainingRunSpec
from aisandbox_environment import (
    Attachment,
    SimulatorSession,
    SimulatorUnreachable,
    describe,
    list_simulators,
)
from aisandbox_model_store import RunStore
from aisandbox_process import InvalidSetting
from aisandbox_process.grpc_tls import add_port, open_aio_channel
from aisandbox_process.tls import ChannelSecurity, InvalidChannelSecurity, ServerCertificate, ServerFiles
from aisandbox_trainer.runtime.progress import ProgressTracker, Reporter
from attached_simulators import SIMULATION
from certificates import Certificates
from onnx_policies import LinearPolicy
from pending_launcher import NeverReady
from waiting import wait_until

OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]
OBSERVATION = [0.25, -0.5, 0.75, 1.0]


@pytest.fixture
def made(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path / "made")


@pytest.fixture
def files(made: Certificates) -> ServerFiles:
    return ServerFiles(made.certificate, made.key)


@pytest.fixture
def security(made: Certificates) -> ChannelSecurity:
    return ChannelSecurity(tls=True, ca_file=made.ca)


@asynccontextmanager
async def serving(folder: Path, files: ServerFiles, admit: Any = None, **fields: Any) -> AsyncIterator[Server]:
    settings = Settings(grpc_port=0, http_port=0, metrics_port=0, models_dir=folder, tls=files, **fields)
    server = create_server(settings, backend=LocalBackend(settings, NeverReady()), admit_simulator=admit)
    await server.start()
    try:
        yield server
    finally:
        await server.stop(grace=0)


@asynccontextmanager
async def inference_server(
    folder: Path, files: ServerFiles, port: int = 0
) -> AsyncIterator[aisandbox_inference.Server]:
    server = aisandbox_inference.create_server(
        aisandbox_inference.Settings(models_dir=folder, grpc_port=port, metrics_port=0, tls=files)
    )
    server.start()
    try:
        yield server
    finally:
        await asyncio.to_thread(server.stop, 0)


async def _act(address: str, security: ChannelSecurity) -> pb.ActResponse:
    async with open_aio_channel(address, security, OWN_CONNECTION) as channel:
        stub: Any = policy_trainer_pb2_grpc.PolicyTrainerServiceStub(channel)
        answer: pb.ActResponse = await stub.Act(pb.ActRequest(run_id="r", observation=OBSERVATION), timeout=60)
        return answer


def _get(url: str, context: ssl.SSLContext | None = None) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=60, context=context) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


async def test_every_port_of_the_service_uses_tls_and_renewed_certificates(
    tmp_path: Path, made: Certificates, files: ServerFiles, security: ChannelSecurity
) -> None:
    async with serving(tmp_path / "models", files) as server:
        for _ in range(2):
            async with open_aio_channel(server.address, security, OWN_CONNECTION) as channel:
                stub: Any = policy_trainer_pb2_grpc.PolicyTrainerServiceStub(channel)
                assert not (await stub.ListTrainingRuns(pb.ListTrainingRunsRequest(), timeout=60)).runs
            trusting = ssl.create_default_context(cafile=str(made.ca))
            base = f"https://127.0.0.1:{server.http_port}/v1/runs"
            status, body = await asyncio.to_thread(_get, f"{base}/none", trusting)
            assert (status, json.loads(body)["code"]) == (404, grpc.StatusCode.NOT_FOUND.value[0])
            made.replace_authority()
            made.ca.write_bytes(made.authority.cert_pem.bytes())
        for path in ("livez", "readyz"):
            url = f"http://127.0.0.1:{server.metrics_port}/{path}"
            # A probe that took too long says no, and is asked again, as a kubelet does.
            await asyncio.to_thread(wait_until, lambda url=url: _get(url)[0] == 200, seconds=60)
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ClientError):
                await session.get(f"http://127.0.0.1:{server.http_port}/v1/runs/none")


async def test_clients_certificates_are_asked_for_at_both_ports_but_not_of_trainers(
    tmp_path: Path, made: Certificates, files: ServerFiles, security: ChannelSecurity
) -> None:
    known = replace(security, certificate_file=made.certificate, key_file=made.key)
    mutual = replace(files, client_ca=made.ca)
    async with serving(tmp_path / "models", mutual, trainer_address="0.0.0.0:0") as server:
        url = f"https://127.0.0.1:{server.http_port}/v1/runs/none"
        context = ssl.create_default_context(cafile=str(made.ca))
        with pytest.raises((urllib.error.URLError, OSError)):
            await asyncio.to_thread(_get, url, context)
        context.load_cert_chain(made.certificate, made.key)
        assert (await asyncio.to_thread(_get, url, context))[0] == 404
        assert await asyncio.to_thread(list_simulators, server.address, timeout=60, security=known) == []
        with pytest.raises(SimulatorUnreachable):
            await asyncio.to_thread(list_simulators, server.address, timeout=60, security=security)
        with pytest.raises(SimulatorUnreachable, match="a trainer names its run"):  # the handshake has succeeded
            await asyncio.to_thread(list_simulators, server.trainer_address, timeout=60, security=security)


async def test_servers_of_the_service_call_each_other_by_tls(
    tmp_path: Path, made: Certificates, files: ServerFiles, security: ChannelSecurity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aisandbox_api.peers.RENEWAL_SECONDS", 0.05)
    models = tmp_path / "models"
    models.mkdir()
    writer = RunStore(models).run("r").claim(1)
    writer.point("latest", writer.publish_model(100, LinearPolicy().files()))
    mutual = replace(files, client_ca=made.ca)  # so that they show their own certificates to each other
    known = replace(security, certificate_file=made.certificate, key_file=made.key)
    async with serving(tmp_path / "a", mutual) as replica, inference_server(models, mutual) as inference:
        peers = {
            "inference_address": inference.address,
            "replicas_address": replica.address,
            "tls_ca_file": made.ca,
        }
        async with serving(tmp_path / "b", mutual, **peers) as server:
            assert (await _act(server.address, known)).model_timesteps == 100
            with attached(replica.address, known):
                (found,) = await _found(server.address, known)
                assert found.pool == "arena"
            # A rollout after the authority was replaced: only connections that have read its file again succeed.
            await asyncio.to_thread(inference.stop, 0)
            made.replace_authority()
            made.ca.write_bytes(made.authority.cert_pem.bytes())
            async with inference_server(models, mutual, inference.port):
                await _until_it_acts(server.address, known)


async def test_other_servers_by_tls_need_a_file_of_authorities(tmp_path: Path) -> None:
    settings = Settings(models_dir=tmp_path, tls_ca_file=tmp_path / "none")
    with pytest.raises(InvalidSetting, match=r"TLS_CA_FILE: the CA file .*none cannot be read"):
        create_server(settings)


async def test_simulators_attach_and_serve_by_tls_with_a_token(
    tmp_path: Path, files: ServerFiles, security: ChannelSecurity
) -> None:
    tokens: list[str | None] = []

    async def admit(_registration: Any, metadata: Any) -> None:
        tokens.append(metadata.get("authorization"))

    token = tmp_path / "token"
    token.write_text("secret")
    async with serving(tmp_path / "models", files, admit=admit) as server:
        with attached(f"https://{server.address}", replace(security, tls=False, token_file=token)):
            await _found(server.address, security)
            await asyncio.to_thread(_play, server.address, security)
        assert set(tokens) == {"Bearer secret"}
        plain = ChannelSecurity()
        with pytest.raises(SimulatorUnreachable):
            await asyncio.to_thread(list_simulators, server.address, timeout=60, security=plain)
        wrong = replace(security, server_name="service.example")
        with pytest.raises(SimulatorUnreachable, match="its certificate is for another name than 127"):
            await asyncio.to_thread(describe, server.address, timeout=60, pool="arena", security=wrong)


def test_attachment_says_that_the_service_uses_tls(files: ServerFiles) -> None:
    server = grpc.server(ThreadPoolExecutor(1))
    address = f"127.0.0.1:{add_port(server, '127.0.0.1:0', ServerCertificate(files))}"
    server.start()
    with structlog.testing.capture_logs() as logs, attached(address, ChannelSecurity()):
        problems = wait_until(lambda: [entry["problem"] for entry in logs if "problem" in entry], seconds=60)
    server.stop(0).wait()
    assert problems[-1] == "the service uses TLS: use https:// or name the CA of its certificate"


def test_attachment_does_not_begin_with_a_token_in_plain_text(tmp_path: Path) -> None:
    attachment = Attachment(
        SIMULATION, "service.example:1", "arena", security=ChannelSecurity(token_file=tmp_path / "token")
    )
    with pytest.raises(InvalidChannelSecurity, match="plain text"):
        attachment.run()


def test_trainer_reports_by_tls_also_after_the_authority_was_replaced(made: Certificates, files: ServerFiles) -> None:
    heard: list[Any] = []

    class Listener(training_progress_pb2_grpc.TrainingProgressServiceServicer):
        def Report(self, request: Any, context: Any) -> training_progress_pb2.ReportResponse:
            heard.append(request.warning)
            return training_progress_pb2.ReportResponse()

        def PublishOutput(self, request: Any, context: Any) -> training_progress_pb2.PublishOutputResponse:
            return training_progress_pb2.PublishOutputResponse()

    def listen(port: int) -> tuple[grpc.Server, int]:
        server = grpc.server(ThreadPoolExecutor(2))
        training_progress_pb2_grpc.add_TrainingProgressServiceServicer_to_server(Listener(), server)
        found = add_port(server, f"127.0.0.1:{port}", ServerCertificate(files))
        server.start()
        return server, found

    server, port = listen(0)
    progress = ProgressTracker(warning="first")
    spec = TrainingRunSpec(Algorithm.PPO, 10)
    start = TrainerStart("run-1", 1, spec, Path("/none"), Path("/none"), f"127.0.0.1:{port}", progress_ca_file=made.ca)
    reporter = Reporter(start, 1, progress)
    reporter.start()
    wait_until(lambda: "first" in heard, seconds=60)
    server.stop(0).wait()
    made.replace_authority()
    made.ca.write_bytes(made.authority.cert_pem.bytes())
    server, _ = listen(port)
    progress.warning = "second"
    wait_until(lambda: "second" in heard, seconds=60)
    reporter.close()
    server.stop(0).wait()


@contextmanager
def attached(address: str, security: ChannelSecurity) -> Iterator[None]:
    """A simulator that is attached, or tries to be."""
    attachment = Attachment(SIMULATION, address, "arena", security=security, first_pause=0.05)
    thread = threading.Thread(target=attachment.run)
    thread.start()
    try:
        yield
    finally:
        attachment.stop()
        thread.join(60)


async def _found(address: str, security: ChannelSecurity) -> Any:
    return await asyncio.to_thread(
        wait_until, lambda: list_simulators(address, timeout=60, security=security), seconds=60
    )


def _play(address: str, security: ChannelSecurity) -> None:
    with SimulatorSession.connect(address, 1, pool="arena", security=security) as session:
        session.reset([1])
        assert session.step(np.zeros((1,), np.int64)).rewards.shape == (1,)


async def _until_it_acts(address: str, security: ChannelSecurity) -> None:
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError):
                assert (await _act(address, security)).model_timesteps == 100
                return

"""Pages of ListTrainingRuns: each answer fits a client with the default settings of gRPC."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any, cast

import grpc
import pytest
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1 import policy_trainer_pb2_grpc as rpc
from aisandbox_api.training_servicer import LARGEST_PAGE_BYTES, TrainingServicer
from aisandbox_crds.spec import Algorithm, GrpcEnvironment, TrainingRunSpec
from aisandbox_crds.trainingrun import TrainingRun


class Runs:
    """A backend that has these runs."""

    def __init__(self, runs: list[TrainingRun]) -> None:
        self._runs = runs

    async def list(self) -> list[TrainingRun]:
        return self._runs


def runs(number: int, option_bytes: int) -> list[TrainingRun]:
    environment = GrpcEnvironment("sims:1", options={"level": "x" * option_bytes})
    spec = TrainingRunSpec(Algorithm.PPO, 1000, environment)
    return [
        replace(TrainingRun(f"run-{i:04}", spec), creation_time=f"2026-01-01T00:{i // 60:02}:{i % 60:02}Z")
        for i in range(number)
    ]


@pytest.mark.parametrize(
    ("number", "option_bytes", "pages"),
    [(100, 60_000, 2), (1000, 10_000, 4), (3, 10, 1), (0, 0, 1), (2, LARGEST_PAGE_BYTES, 2)],
)
async def test_page_fits_a_client_of_default_settings(number: int, option_bytes: int, pages: int) -> None:
    servicer = TrainingServicer(cast(Any, Runs(runs(number, option_bytes))), cast(Any, None), Random(0))
    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(
        servicer.ListTrainingRuns, pb.ListTrainingRunsRequest.FromString, pb.ListTrainingRunsResponse.SerializeToString
    )
    service = grpc.method_handlers_generic_handler("aisandbox.v1.PolicyTrainerService", {"ListTrainingRuns": handler})
    server.add_generic_rpc_handlers((service,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    listed, token, count = [], "", 0
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = rpc.PolicyTrainerServiceStub(channel)
        while not count or token:
            response = await stub.ListTrainingRuns(pb.ListTrainingRunsRequest(page_size=1000, page_token=token))
            listed += [run.run_id for run in response.runs]
            token, count = response.next_page_token, count + 1
    await server.stop(0)
    assert listed == [f"run-{i:04}" for i in reversed(range(number))]
    assert count == pages

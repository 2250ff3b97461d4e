"""What it costs to be asked who one is: Act with a token, with TLS, and with both, against neither.

Servers, each a process of its own with the same PPO policy: the inference-server, and the service as `aisandbox up` has
it. One client, gRPC's synchronous one, one call at a time, goes round them in short turns, so that whatever else the
machine does falls on all; calls a second are counted without the slowest tenth.

    python bench/access.py [--seconds 40] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from aisandbox_process.grpc_runtime import set_up_grpc

set_up_grpc()  # as the programs do, before gRPC is imported

import trustme
from act import OBSERVATION, PATH, RUN, WARM_UP_CALLS, Series, publish, start, take_turn
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1 import policy_trainer_pb2_grpc
from aisandbox_access import OWNER_ANNOTATION, token_line
from aisandbox_crds import Algorithm, Phase, TrainingRun, TrainingRunSpec, TrainingRunStatus, run_to_json
from aisandbox_process.grpc_direct import open_stream
from aisandbox_process.grpc_tls import channel_credentials, open_channel
from aisandbox_process.tls import ChannelSecurity
from rich.console import Console
from rich.table import Table

TOKEN = "x" * 43
"""As long as 32 random bytes in base64."""
WAYS = {"neither": (False, False), "token": (True, False), "TLS": (False, True), "token and TLS": (True, True)}
"""Whether there is a token, and TLS."""
COMMANDS = {"inference-server": ["-m", "aisandbox_inference"], "aisandbox up": ["-m", "aisandbox_cli", "up", "--json"]}
KINDS = ("unary", "stream")


@dataclass(frozen=True)
class Files:
    """What the servers read; ``ca``: what the client does."""

    folder: Path
    ca: Path

    def environ(self, token: bool, tls: bool) -> dict[str, str]:
        """The settings of a server."""
        found = {"MODELS_DIR": str(self.folder / "models"), "GRPC_PORT": "0", "TRAINER_LAUNCHER": "process"}
        if token:
            found |= {"AUTH": "token", "TOKEN_FILE": str(self.folder / "tokens")}
        if tls:
            names = {"TLS_CERT_FILE": "server.crt", "TLS_KEY_FILE": "server.key"}
            found |= {variable: str(self.folder / name) for variable, name in names.items()}
        return found


def written(folder: Path) -> Files:
    """The files, with a published policy of a run that is alice's."""
    models = folder / "models"
    models.mkdir()
    publish(models, folder / "model.zip")
    spec, done = TrainingRunSpec(Algorithm.PPO, total_timesteps=1), TrainingRunStatus(Phase.SUCCEEDED)
    run = TrainingRun(RUN, spec, done, annotations={OWNER_ANNOTATION: "alice"})
    (models / "runs" / RUN / "trainingrun.json").write_text(json.dumps(run_to_json(run)))
    (folder / "tokens").write_text(token_line("alice", "actor", TOKEN) + "\n")
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    (folder / "server.crt").write_bytes(b"".join(each.bytes() for each in certificate.cert_chain_pems))
    (folder / "server.key").write_bytes(certificate.private_key_pem.bytes())
    (folder / "ca.crt").write_bytes(authority.cert_pem.bytes())
    return Files(folder, folder / "ca.crt")


class Client:
    """One channel to one server, and a way to call it for each kind."""

    def __init__(self, address: str, token: bool, security: ChannelSecurity) -> None:
        metadata = (("authorization", f"Bearer {TOKEN}"),) if token else ()
        self._channel = open_channel(address, security)
        stub = policy_trainer_pb2_grpc.PolicyTrainerServiceStub(self._channel)
        request = pb.ActRequest(run_id=RUN, observation=OBSERVATION)
        following = pb.ActStreamRequest(request=pb.ActRequest(observation=OBSERVATION)).SerializeToString()
        stream = open_stream(
            address, f"{PATH}ActStream", metadata=metadata, credentials=channel_credentials(security), direct=True
        )
        stream.send(pb.ActStreamRequest(request=request).SerializeToString())
        stream.receive()

        def exchange() -> Any:
            stream.send(following)
            return pb.ActStreamResponse.FromString(stream.receive()).response.action[0]

        self.calls: dict[str, Callable[[], Any]] = {
            "unary": lambda: stub.Act(request, metadata=metadata).action[0],
            "stream": exchange,
        }


def measured(files: Files, seconds: float) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """The figures by server, kind and way."""
    processes, clients = [], {}
    try:
        for server, command in COMMANDS.items():
            for way, (token, tls) in WAYS.items():
                environ = files.environ(token, tls)
                if server == "aisandbox up":  # one service for a folder of models
                    copy = shutil.copytree(files.folder / "models", files.folder / f"models of {way}")
                    environ["MODELS_DIR"] = str(copy)
                process, address = start(command, environ)
                processes.append(process)
                security = ChannelSecurity(tls=tls, ca_file=files.ca if tls else None)
                clients[server, way] = Client(address, token, security)
        times = {(key, kind): Series() for key in clients for kind in KINDS}
        for client in clients.values():
            for call in client.calls.values():
                for _ in range(WARM_UP_CALLS):
                    call()
        spent = 0.0
        while spent < seconds:
            for key, client in clients.items():
                for kind in KINDS:
                    series = times[key, kind].seconds
                    before = sum(series)
                    take_turn(client.calls[kind], series)
                    spent += sum(series) - before
    finally:
        for process in processes:
            process.kill()
    return {
        server: {kind: {way: figures(times[(server, way), kind].seconds) for way in WAYS} for kind in KINDS}
        for server in COMMANDS
    }


def figures(seconds: list[float]) -> dict[str, float]:
    """The p50 in microseconds, and calls a second without the slowest tenth, which waited for other programs."""
    fast = sorted(seconds)[: len(seconds) * 9 // 10]
    return {"p50_us": median(seconds) * 1e6, "calls_per_second": len(fast) / sum(fast), "calls": len(seconds)}


def report(results: dict[str, dict[str, dict[str, dict[str, float]]]]) -> None:
    console = Console()
    for server, kinds in results.items():
        for kind, ways in kinds.items():
            table = Table(title=f"Act of {server}, {kind}: one call at a time", title_justify="left")
            for column in ("with", "p50 µs", "calls/s", "p50: neither's / its", "calls/s: its / neither's"):
                table.add_column(column, justify="left" if column == "with" else "right")
            plain = ways["neither"]
            for way, row in ways.items():
                table.add_row(
                    way,
                    f"{row['p50_us']:,.0f}",
                    f"{row['calls_per_second']:,.0f}",
                    f"{plain['p50_us'] / row['p50_us']:.2f}",
                    f"{row['calls_per_second'] / plain['calls_per_second']:.2f}",
                )
            console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=40.0, help="how long to measure, about (default 40)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = measured(written(Path(folder)), arguments.seconds)
    load = os.getloadavg()[0]
    if arguments.json:
        print(json.dumps({"load": load, "results": results}))
    else:
        report(results)
        print(f"load of the machine at the end: {load:.1f}")


if __name__ == "__main__":
    main()

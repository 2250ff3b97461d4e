"""The service as a process of its own, with real trainers, on a folder that outlives it.

Owns its start, its kill and what its log says. Must not know what is trained.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
from aisandbox.v1.policy_trainer_pb2_grpc import PolicyTrainerServiceStub
from waiting import wait_until


class ServiceProcess:
    """``python -m aisandbox_api`` on ``folder``/models. ``settings``: environment variables."""

    def __init__(self, folder: Path, **settings: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.models_dir = folder / "models"
        self.models_dir.mkdir(exist_ok=True)
        self._log = folder / "service.log"
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.stub: Any = None
        self._channel: Any = None

    def start(self) -> None:
        """Starts it and waits until it answers."""
        environ = {**os.environ, "MODELS_DIR": str(self.models_dir), "GRPC_PORT": str(self.port), **self._settings}
        seen = len(self.events())
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([sys.executable, "-m", "aisandbox_api"], env=environ, stderr=log)
        addresses = wait_until(
            lambda: [event["address"] for event in self.events()[seen:] if "address" in event], every=0.02, seconds=120
        )
        self.port = int(str(addresses[0]).rpartition(":")[2])
        options = [("grpc.use_local_subchannel_pool", 1)]
        self._channel = grpc.insecure_channel(f"127.0.0.1:{self.port}", options=options)
        grpc.channel_ready_future(self._channel).result(timeout=120)
        self.stub = PolicyTrainerServiceStub(self._channel)

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
            self._process.wait(120)
        if self._channel is not None:
            self._channel.close()

    def events(self) -> list[dict[str, Any]]:
        """The lines of its log."""
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def tail(self) -> str:
        return self._log.read_text()[-3000:]

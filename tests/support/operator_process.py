"""The operator as a process of the test, outside the cluster, that can be killed and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

from waiting import wait_until


@dataclass
class OperatorProcess:
    """``environ`` has its variables but for the ports, which are free ones; its log is appended to ``log``."""

    environ: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _offset: int = field(default=0, init=False)

    def start(self) -> None:
        """Returns when it reconciles runs."""
        self.spawn()
        wait_until(self.probe_port, seconds=30)

    def spawn(self) -> None:
        """Returns at once."""
        self._offset = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "aisandbox_operator"],
                env={**os.environ, "METRICS_PORT": "0", "PROBE_PORT": "0", **self.environ},
                stderr=log,
            )

    def probe_port(self) -> int:
        """Where it answers /healthz; 0 before it does."""
        return self._port("probe_port")

    def metrics(self) -> str:
        """What Prometheus reads."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port('metrics_port')}/metrics", timeout=60) as answer:
            text: str = answer.read().decode()
            return text

    def health(self) -> str:
        """What the probe reads."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.probe_port()}/healthz", timeout=60) as answer:
            text: str = answer.read().decode()
            return text

    def kill(self) -> None:
        """SIGKILL: no step of it is finished."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        return self._end(signal.SIGTERM)

    def errors(self) -> list[str]:
        """The lines of its log that a person would have to look at."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line for line in lines if '"level": "error"' in line or "Traceback" in line or '"critical"' in line]

    def _end(self, number: int) -> int:
        if self.process is None:
            return 0
        self.process.send_signal(number)
        code = self.process.wait(timeout=60)
        self.process = None
        return code

    def _port(self, key: str) -> int:
        if self.process is not None and self.process.poll() is not None:
            raise AssertionError(f"the operator has ended: {self.log.read_text()[-2000:]}")
        _, _, after = self.log.read_text()[self._offset :].partition(f'"{key}": ')
        digits = after.partition(",")[0].partition("}")[0]
        return int(digits) if digits.strip().isdigit() else 0

"""A port of this machine that leads to a Service of the cluster, also after the pod behind it has been replaced."""

from __future__ import annotations

import re
import subprocess
import threading
from types import TracebackType
from typing import Self

from kubectl import Kubectl

START_SECONDS = 60.0


class PortForward:
    """``kubectl port-forward``, started again at the same local port whenever it ends.

    kubectl connects to one pod of the Service and gives up when that pod goes away.
    """

    def __init__(self, kubectl: Kubectl, target: str, port: int) -> None:
        self._kubectl, self._target, self._port = kubectl, target, port
        self._local_port = 0
        self._ready = threading.Event()
        self._stopped = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._last_line = ""
        self._thread = threading.Thread(target=self._supervise, name=f"port-forward {target}", daemon=True)

    @property
    def address(self) -> str:
        """``127.0.0.1:PORT``."""
        return f"127.0.0.1:{self._local_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(START_SECONDS):
            self._stop()
            raise RuntimeError(f"port-forward to {self._target}: {self._last_line}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        self._stopped.set()
        if self._process is not None:
            self._process.terminate()
        self._thread.join(10)

    def _supervise(self) -> None:
        while not self._stopped.is_set():
            arguments = ("port-forward", self._target, f"{self._local_port or ''}:{self._port}")
            self._process = subprocess.Popen(
                self._kubectl.command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            assert self._process.stdout is not None
            with self._process.stdout as output:
                for line in output:
                    self._note(line.strip())
            self._process.wait()
            self._stopped.wait(0.3)

    def _note(self, line: str) -> None:
        if match := re.match(r"Forwarding from 127\.0\.0\.1:(\d+)", line):
            self._local_port = int(match[1])
            self._ready.set()
        elif not line.startswith("Handling connection"):
            self._last_line = line
            if "lost connection to pod" in line and self._process is not None:
                self._process.terminate()

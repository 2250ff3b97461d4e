"""The logs of all pods of a namespace, also of deleted ones.

Kubernetes drops the log of a pod with the pod, and tests delete pods; so the logs are followed while the tests run.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from kubernetes import client

LOOK_EVERY_SECONDS = 1.0


class PodLogs:
    """Follows every container into ``FOLDER/POD.CONTAINER.log``."""

    def __init__(self, core: client.CoreV1Api, namespace: str, folder: Path) -> None:
        self._core: Any = core
        self._namespace, self._folder = namespace, folder
        self._followed: set[tuple[str, str, int]] = set()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._look, name="pod logs", daemon=True)

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join(10)

    def lines(self, prefix: str) -> Iterator[tuple[str, str]]:
        """Pod and line of everything said by the pods whose name begins so."""
        for path in sorted(self._folder.glob(f"{prefix}*.log")):
            for line in path.read_text(errors="replace").splitlines():
                yield path.name.removesuffix(".log"), line

    def _look(self) -> None:
        while not self._stopped.is_set():
            try:
                for pod in self._core.list_namespaced_pod(self._namespace, resource_version="0").items:
                    for status in pod.status.container_statuses or []:
                        self._follow(pod.metadata.name, status)
            except Exception as error:
                print(f"pod logs: {error!r}")  # the API server is busy; the next look will do
            self._stopped.wait(LOOK_EVERY_SECONDS)

    def _follow(self, pod: str, status: Any) -> None:
        key = (pod, status.name, status.restart_count)
        began = status.state.running or status.state.terminated
        if key in self._followed or not began:
            return
        self._followed.add(key)
        threading.Thread(target=self._copy, args=(pod, status.name), name=f"log of {pod}", daemon=True).start()

    def _copy(self, pod: str, container: str) -> None:
        try:
            response = self._core.read_namespaced_pod_log(
                pod, self._namespace, container=container, follow=True, _preload_content=False
            )
            with (self._folder / f"{pod}.{container}.log").open("ab") as file:
                for part in response.stream():
                    file.write(part)
                    file.flush()
        except Exception as error:
            if not self._stopped.is_set():
                print(f"log of {pod}: {error!r}")


def errors_in(lines: Iterator[tuple[str, str]]) -> list[str]:
    """The lines that are logged as errors, tracebacks, and what the cluster forbids."""
    found = []
    for pod, line in lines:
        try:
            level = json.loads(line)["level"]
        except (ValueError, KeyError, TypeError):
            level = "error" if line.startswith("Traceback (most recent call last)") else ""
        if level in ("error", "critical", "exception") or "is forbidden" in line:
            found.append(f"{pod}: {line}")
    return found


def settle(seconds: float = 2.0) -> None:
    """Gives the last lines time to arrive: a log has no end to wait for."""
    time.sleep(seconds)

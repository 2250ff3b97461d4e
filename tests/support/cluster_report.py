"""What a person wants to see of a cluster after a test has failed, as files in one folder."""

from __future__ import annotations

import subprocess
from pathlib import Path

from kubectl import Kubectl

QUESTIONS = {
    "trainingruns.txt": ("get", "trainingruns", "-o", "wide"),
    "trainingruns.yaml": ("get", "trainingruns", "-o", "yaml"),
    "objects.txt": ("get", "all,configmaps,persistentvolumeclaims,networkpolicies,poddisruptionbudgets", "-o", "wide"),
    "events.txt": ("get", "events", "--sort-by=.lastTimestamp"),
    "pods.txt": ("describe", "pods"),
    "jobs.txt": ("describe", "jobs"),
    "nodes.txt": ("describe", "nodes"),
}


def collect(kubectl: Kubectl, folder: Path) -> None:
    """Asks everything and writes the answers, whatever they are."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, question in QUESTIONS.items():
        try:
            done = kubectl.attempt(*question, seconds=60)
            text = done.stdout + done.stderr
        except subprocess.TimeoutExpired as error:
            text = str(error)
        (folder / name).write_text(text)
    _collect_logs(kubectl, folder / "pods")


def _collect_logs(kubectl: Kubectl, folder: Path) -> None:
    """The logs of pods that were not followed; those of followed ones exist already."""
    folder.mkdir(exist_ok=True)
    pods = kubectl.attempt("get", "pods", "-o", "jsonpath={.items[*].metadata.name}").stdout.split()
    for pod in pods:
        if not any(folder.glob(f"{pod}.*.log")):
            log = kubectl.attempt("logs", pod, "--all-containers", "--prefix")
            (folder / f"{pod}.log").write_text(log.stdout + log.stderr)

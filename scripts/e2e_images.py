"""The images that are tested: built from the files as they are, and brought to where the cluster finds them.

Owns their names and what is left of earlier ones. Must not know the cluster, but for the name by which kind loads them.
"""

from __future__ import annotations

import contextlib
import os
import time
import urllib.request
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from stages import Clock, Commands, Stopped

SERVERS = ("operator", "api-server", "inference-server")
TRAINER = "trainer"
OVERLAY_REGISTRY = "localhost:5001"
"""What the overlay of kind names."""


@dataclass
class Images:
    """``registry``/aisandbox/PART:``tag``. Without ``pushes`` no registry answers; without ``builds`` all are there."""

    registry: str
    tag: str
    pushes: bool
    builds: bool
    commands: Commands
    clock: Clock

    @classmethod
    def chosen(cls, work: Path, commands: Commands, clock: Clock) -> Images:
        """By REGISTRY and TAG; ``work`` is a folder for a file."""
        registry, tag = os.environ.get("REGISTRY") or OVERLAY_REGISTRY, os.environ.get("TAG", "")
        return cls(registry, tag or _tag_of_files(work, commands), _answers(registry), not tag, commands, clock)

    def name(self, part: str) -> str:
        """The whole name of a part's image."""
        return f"{self.registry}/aisandbox/{part}:{self.tag}"

    def provide(self, part: str, kind: str, cluster: Future[None]) -> None:
        """Builds the image, and pushes it or has it loaded by the cluster named ``kind`` once there is one."""
        if not self.builds:
            return
        names = (f"REGISTRY={self.registry}", f"TAG={self.tag}")
        with self.clock.stage(f"image of {part} built"):
            self.commands.run("make", f"image-{part}", *names)
        if self.pushes:
            with self.clock.stage(f"image of {part} pushed"):
                self.commands.run("make", f"push-{part}", *names)
        else:
            cluster.result()
            with self.clock.stage(f"image of {part} loaded"):
                self.commands.run("kind", "load", "docker-image", self.name(part), "--name", kind)

    def replacements(self) -> list[dict[str, str]]:
        """For ``images`` of a kustomization on top of the overlay of kind."""
        parts = [f"aisandbox/{part}" for part in (*SERVERS, TRAINER)]
        return [
            {"name": f"{OVERLAY_REGISTRY}/{part}", "newName": f"{self.registry}/{part}", "newTag": self.tag}
            for part in parts
        ]

    def remove_older(self) -> None:
        """Takes their names from the images of earlier tests; what they share with these stays."""
        if not self.builds:
            return
        named = f"reference={self.registry}/aisandbox/*:e2e-*"
        older = self.commands.run("docker", "image", "ls", "--filter", named, "--format", "{{.Repository}}:{{.Tag}}")
        for image in older.split():
            if not image.endswith(f":{self.tag}"):
                with contextlib.suppress(Stopped):  # a container still has it
                    self.commands.run("docker", "image", "rm", image)


def _answers(registry: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{registry}/v2/", timeout=3) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def _tag_of_files(work: Path, commands: Commands) -> str:
    """The same for the same files, so that a node that has their images need not fetch them again."""
    index = {"GIT_INDEX_FILE": str(work / "index")}
    try:
        commands.run("git", "add", "--all", environ=index)
        return f"e2e-{commands.run('git', 'write-tree', environ=index)[:12]}"
    except Stopped:  # no git
        return f"e2e-{time.time_ns():x}"

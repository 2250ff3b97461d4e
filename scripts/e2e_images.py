"""The images that are tested: built from the files as they are, and brought to where the cluster finds them.

Owns their names and what is left of earlier ones. Must not know the cluster, but for the name by which kind loads them.
"""

from __future__ import annotations

import contextlib
import os
import time
import urllib.request
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from stages import Clock, Commands, Stopped

SERVERS = ("operator", "api-server", "inference-server")
TRAINER = "trainer"
OVERLAY_REGISTRY = "localhost:5001"
"""What the overlay of kind names."""


LOAD = (
    'set -o pipefail; node=$1; shift; docker save "$@" '
    '| docker exec --interactive "$node" ctr --namespace=k8s.io images import --snapshotter=overlayfs -'
)
"""What `kind load docker-image` does, without writing gigabytes to a file between the two."""


@dataclass
class Images:
    """``registry``/aisandbox/PART:``tag``. Without ``pushes`` kind's nodes load them; without ``builds`` they exist."""

    registry: str
    tag: str
    pushes: bool
    builds: bool
    commands: Commands
    clock: Clock

    @classmethod
    def chosen(cls, work: Path, commands: Commands, clock: Clock, *, passing: bool) -> Images:
        """By REGISTRY and TAG; ``work`` is a folder for a file. ``passing``: kind's cluster is removed after the tests.

        From a registry an image comes compressed, and only what has changed. Its first way through one takes twice as
        long as loading it, and a cluster that is removed has only first ones.
        """
        registry, tag = os.environ.get("REGISTRY") or OVERLAY_REGISTRY, os.environ.get("TAG", "")
        pushes = not passing and answers(registry)
        return cls(registry, tag or _tag_of_files(work, commands), pushes, not tag, commands, clock)

    def name(self, part: str) -> str:
        """The whole name of a part's image."""
        return f"{self.registry}/aisandbox/{part}:{self.tag}"

    def provide(self, parts: Sequence[str], kind: str, cluster: Future[None]) -> None:
        """Builds the images, and pushes them or has the cluster named ``kind`` load them once there is one."""
        if not self.builds:
            return
        names = (f"REGISTRY={self.registry}", f"TAG={self.tag}")
        for part in parts:
            with self.clock.stage(f"image of {part} built"):
                self.commands.run("make", f"image-{part}", *names)
        if self.pushes:
            for part in parts:
                with self.clock.stage(f"image of {part} pushed"):
                    self.commands.run("make", f"push-{part}", *names)
        else:
            cluster.result()
            images = [self.name(part) for part in parts]
            with self.clock.stage(f"images of {', '.join(parts)} loaded"):
                for node in self.commands.run("kind", "get", "nodes", "--name", kind).split():
                    self.commands.run("bash", "-c", LOAD, "load", node, *images)

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


def answers(registry: str) -> bool:
    """Whether a registry is there."""
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

"""An image of a test's own, built and brought to where a cluster finds it.

By a registry the nodes can pull from, or, where none takes it, into the nodes of kind. Must not know what is in it.
"""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path


def provide_image(context: str, image: str, folder: Path, *arguments: str) -> None:
    """Builds ``folder`` as ``image``; ``arguments`` are docker's. Raises RuntimeError."""
    _run("docker", "build", "--quiet", *arguments, "--tag", image, str(folder))
    try:
        _run("docker", "push", "--quiet", image)
    except RuntimeError:
        if not context.startswith("kind-"):
            raise
        _run("kind", "load", "docker-image", image, "--name", context.removeprefix("kind-"))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        raise RuntimeError(f"{shlex.join(command)}: {done.stderr.strip()}")

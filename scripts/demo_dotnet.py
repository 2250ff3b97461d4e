"""Trains the C# sample CartPole against the service (``make demo-dotnet``): exits non-zero if it did not learn.

Owns the service's process while the sample runs. Must not know what the sample does.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from aisandbox_cli.processes import Children

SAMPLE = Path(__file__).parents[1] / "samples" / "dotnet" / "CartPole"


def main(arguments: list[str]) -> int:
    """The status of the sample; ``arguments`` are its own: the timesteps."""
    with tempfile.TemporaryDirectory(prefix="aisandbox-demo-dotnet-") as folder, Children(Path(folder)) as children:
        service = children.start("up", "--port", "0", "--models-dir", f"{folder}/models")
        address = str(service.wait_until_ready()["address"])
        command = ["dotnet", "run", "--project", str(SAMPLE), "--configuration", "Release", "--"]
        environ = os.environ | {"AISANDBOX_ADDRESS": address}
        return subprocess.run([*command, "train", *arguments], env=environ, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

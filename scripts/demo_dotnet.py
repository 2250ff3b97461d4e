"""Runs the C# sample CartPole against the service (``make demo-dotnet``): exits non-zero if it did not learn.

Owns the service's process while the sample runs. Must not know what the sample does.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from aisandbox_cli.processes import Children

SAMPLE = Path(__file__).parents[1] / "samples" / "dotnet" / "CartPole"


def main(arguments: list[str]) -> int:
    """The status of the sample; ``arguments`` are its own, beside the address of the service."""
    with tempfile.TemporaryDirectory(prefix="aisandbox-demo-dotnet-") as folder, Children(Path(folder)) as children:
        service = children.start("up", "--port", "0", "--models-dir", f"{folder}/models")
        address = str(service.wait_until_ready()["address"])
        command = ["dotnet", "run", "--project", str(SAMPLE), "--configuration", "Release", "--"]
        return subprocess.run([*command, "--address", address, *arguments], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The C# packages in a folder that restore takes as a source. Must not know what is in them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from dotnet_flags import quiet_flags

CLIENTS = Path(__file__).parents[2] / "clients" / "dotnet"


def local_feed(folder: Path) -> Path:
    """The folder of packages that ``make dotnet`` has made (AISANDBOX_PACKAGES), otherwise one made in ``folder``.

    Raises ``AssertionError`` with what dotnet says if it fails.
    """
    if made := os.environ.get("AISANDBOX_PACKAGES"):
        return Path(made)
    feed = folder / "feed"
    command = ["dotnet", "pack", "AISandbox.slnx", "-c", "Release", "-o", str(feed), *quiet_flags()]
    command += [f"-p:ArtifactsPath={folder / 'build'}"]  # not in the usual place, where another build may run
    done = subprocess.run(command, cwd=CLIENTS, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return feed

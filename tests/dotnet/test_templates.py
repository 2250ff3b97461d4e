"""The template installs from a local feed, and the program that it makes builds and passes the checks.

Needs the .NET SDK, as test_documents.py.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from dotnet_flags import quiet_flags
from local_feed import local_feed

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        shutil.which("dotnet") is None and not os.environ.get("REQUIRE_DOTNET"), reason="no .NET SDK is installed"
    ),
]


def _dotnet(folder: Path, *arguments: str, **environ: str) -> str:
    command = ["dotnet", *arguments]
    done = subprocess.run(command, cwd=folder, env=os.environ | environ, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return local_feed(tmp_path_factory.mktemp("feed"))


@pytest.fixture(scope="module")
def hive(feed: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Where the template is installed, apart from the user's templates."""
    folder = tmp_path_factory.mktemp("hive")
    (package,) = feed.glob("AISandbox.Templates.*.nupkg")
    options = ("--debug:custom-hive", str(folder))
    _dotnet(folder, "new", "install", str(package), *options)
    return options


def test_template_makes_a_program_that_passes_the_checks(feed: Path, hive: tuple[str, str], tmp_path: Path) -> None:
    name, safe, dns = "My.World-2", "My_World_2", "my-world-2"  # a dot and a hyphen, which no class has in its name
    _dotnet(tmp_path, "new", "aisandbox-simulation", "--name", name, *hive)

    project = tmp_path / name
    assert {path.name for path in project.iterdir()} == {
        ".dockerignore",
        "Dockerfile",
        "Program.cs",
        "README.md",
        f"{safe}.cs",
        f"{safe}.csproj",
        "kubernetes.yaml",
        "kustomization.yaml",
    }
    text = "".join(path.read_text(encoding="utf-8") for path in project.iterdir())
    assert "cartpole" not in text.lower()
    objects = list(yaml.safe_load_all((project / "kubernetes.yaml").read_text(encoding="utf-8")))
    assert {each["metadata"]["name"] for each in objects} == {dns}
    assert f"{safe}.dll" in (project / "Dockerfile").read_text(encoding="utf-8")
    build = ("build", *quiet_flags(), "-warnaserror", "-o", "out", f"-p:RestoreAdditionalProjectSources={feed}")
    # An older package of the same version would be taken from the folder of installed packages, were it the usual one.
    _dotnet(project, *build, NUGET_PACKAGES=str(tmp_path / "packages"))
    checked = _dotnet(project, f"out/{safe}.dll", "check").splitlines()
    assert len(checked) == 6
    assert all(line.startswith("ok ") for line in checked), checked

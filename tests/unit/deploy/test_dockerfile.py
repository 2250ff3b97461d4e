"""The Dockerfile agrees with the Makefile, the workspace and the lock file; its context is what it needs."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from types import ModuleType

import pytest
from workspace import ROOT, folders, needed_by

TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")
MEMBERS = {
    "operator": "aisandbox-operator",
    "api-server": "aisandbox-api",
    "inference-server": "aisandbox-inference",
    "trainer": "aisandbox-trainer",
}
TARGETS = dict(re.findall(r"^FROM runtime AS (\S+)\n(.*?)(?=^FROM|^#|\Z)", TEXT, re.MULTILINE | re.DOTALL))


@pytest.fixture(params=MEMBERS)
def image(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def image_parts() -> ModuleType:
    spec = importlib.util.spec_from_file_location("image_parts", ROOT / "scripts" / "image_parts.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_targets_are_the_images_of_the_makefile() -> None:
    (names,) = re.findall(r"^IMAGES := (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(TARGETS) == set(names.split()) == set(MEMBERS)


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_builds_the_target_for_its_member(image: str) -> None:
    command = ["make", "--dry-run", f"image-{image}", "TAG=test", "TORCH_INDEX=", "UV=/uv"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert (
        f"--target {image} --tag localhost:5001/aisandbox/{image}:test --build-arg MEMBER={MEMBERS[image]} " in printed
    )


def test_target_starts_the_program_of_its_member(image: str) -> None:
    (module,) = re.findall(r'^ENTRYPOINT \["python", "-m", "(\w+)"\]$', TARGETS[image], re.MULTILINE)
    assert (ROOT / folders()[MEMBERS[image]] / "src" / module / "__main__.py").is_file()


def test_target_adds_no_layer(image: str) -> None:
    """What the images share is in the stages before; a builder that builds every stage builds nothing twice."""
    instructions = re.findall(r"^([A-Z]+) ", TARGETS[image], re.MULTILINE)
    assert set(instructions) <= {"EXPOSE", "ENTRYPOINT", "CMD", "LABEL"}


def test_dockerfile_needs_no_other_image_and_no_feature_of_one_builder() -> None:
    assert set(re.findall(r"^FROM (\S+)", TEXT, re.MULTILINE)) == {"${BASE}", "runtime"}
    assert re.findall(r"^ARG BASE=(.*)$", TEXT, re.MULTILINE) == ["python:3.13-slim"]
    assert "# syntax" not in TEXT
    assert "--mount" not in TEXT
    assert "<<" not in TEXT


def test_dockerfile_ends_as_a_user_without_permissions() -> None:
    assert re.findall(r"^USER (.*)$", TEXT, re.MULTILINE) == ["65532:65532"]


def test_python_takes_no_module_from_the_working_directory() -> None:
    assert "PYTHONSAFEPATH=1" in " ".join(re.findall(r"^ENV (.*)$", TEXT, re.MULTILINE)).split()


def test_layers_before_the_code_depend_on_nothing_but_the_lock() -> None:
    """PyTorch's layer has gigabytes: no build argument that differs between builds, and no code, may come before it."""
    runtime = TEXT.partition("FROM ${BASE} AS runtime\n")[2]
    before_the_code = runtime.partition("COPY --from=parts /parts/app ")[0]
    assert re.findall(r"^(?:ARG|COPY) (.*)$", before_the_code, re.MULTILINE) == [
        "TORCH_INDEX=",
        "--from=parts /parts/torch.txt /opt/",
        "--from=parts /parts/requirements.txt /opt/",
    ]


def test_tools_that_build_are_installed_by_their_hashes() -> None:
    assert "pip install --no-cache-dir --require-hashes -r /opt/build_tools.txt" in TEXT
    for path in ("Makefile", "scripts/setup.ps1"):
        installs = re.findall(r"pip install .*", (ROOT / path).read_text(encoding="utf-8"))
        assert installs, path
        assert [line for line in installs if "--require-hashes" not in line] == [], path


@pytest.mark.parametrize("server", ["operator", "api-server", "inference-server"])
def test_image_of_a_server_has_no_pytorch(server: str, image_parts: ModuleType) -> None:
    needed = needed_by(MEMBERS[server])
    assert not {"torch", "stable-baselines3", "gymnasium"} & needed
    assert not [name for name in needed if image_parts.WITH_TORCH.match(f"{name}==")]


@pytest.mark.parametrize("server", ["operator", "api-server"])
def test_image_of_a_server_has_the_client_of_the_cluster(server: str) -> None:
    assert "kubernetes" in needed_by(MEMBERS[server])


def test_image_of_the_trainer_has_pytorch_but_no_client_of_the_cluster() -> None:
    needed = needed_by(MEMBERS["trainer"])
    assert {"torch", "stable-baselines3", "gymnasium"} <= needed
    assert not {"kubernetes", "kopf", "onnxruntime"} & needed


def test_image_parts_sort_the_locked_packages(image_parts: ModuleType) -> None:
    packages = """\
./crds
./trainer_image
cuda-bindings==13.5.0 ; sys_platform == 'linux' \\
    --hash=sha256:aa
torch==2.15.0 \\
    --hash=sha256:bb \\
    --hash=sha256:cc
torchmetrics==1.0.0 \\
    --hash=sha256:dd
numpy==2.4.6 ; python_full_version < '3.12' \\
    --hash=sha256:ee
"""
    torch, others, own = image_parts.sorted_out(packages)
    assert [entry.split("==")[0] for entry in torch] == ["cuda-bindings", "torch"]
    assert torch[1].count("--hash") == 2
    assert [entry.split("==")[0] for entry in others] == ["torchmetrics", "numpy"]
    assert own == [Path("crds"), Path("trainer_image")]
    assert len("".join([*torch, *others])) == len(packages) - len("./crds\n./trainer_image\n")


def _is_in_context(path: str) -> bool:
    """By the rules of .dockerignore that this project's uses: the last pattern that matches a path or above decides."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    is_in = True
    for line in lines:
        pattern = line.removeprefix("!")
        if line and not line.startswith("#") and any(_matches(each, pattern) for each in _with_parents(path)):
            is_in = line.startswith("!")
    return is_in


def _with_parents(path: str) -> list[str]:
    return [path, *(str(parent) for parent in PurePosixPath(path).parents if parent != PurePosixPath("."))]


def _matches(path: str, pattern: str) -> bool:
    if pattern.startswith("**/"):
        return any(fnmatchcase(part, pattern[3:]) for part in path.split("/"))
    parts, patterns = path.split("/"), pattern.split("/")
    return len(parts) == len(patterns) and all(map(fnmatchcase, parts, patterns))


def test_context_has_what_tells_the_packages_of_every_member() -> None:
    for path in ("uv.lock", "pyproject.toml", "scripts/build_tools.txt", "scripts/image_parts.py"):
        assert (ROOT / path).is_file()
        assert _is_in_context(path)
    for each in folders().values():
        assert (ROOT / each / "pyproject.toml").is_file()
        assert _is_in_context(f"{each}/pyproject.toml")


def test_context_has_the_code_that_is_in_an_image() -> None:
    in_images = {folders()[name] for member in MEMBERS.values() for name in needed_by(member) & folders().keys()}
    for each in folders().values():
        files = [str(path.relative_to(ROOT).as_posix()) for path in (ROOT / each / "src").rglob("*.py")]
        assert files
        assert {_is_in_context(path) for path in files} == {each in in_images}, each


@pytest.mark.parametrize(
    "path",
    [
        ".git/HEAD",
        ".venv/bin/python",
        "README.md",
        "docs/images.md",
        "tests/conftest.py",
        "deploy/base/operator.yaml",
        "models/runs/one/models/1/policy.onnx",
        "scripts/check.ps1",
        "Dockerfile",
        "operator/src/aisandbox_operator/__pycache__/plan.cpython-313.pyc",
        "Makefile",
        "Tiltfile",
    ],
)
def test_context_has_nothing_that_images_are_not_made_of(path: str) -> None:
    assert not _is_in_context(path)

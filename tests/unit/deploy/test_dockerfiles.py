"""The Dockerfiles agree with each other, the workspace and the lock file; their context is what they need."""

from __future__ import annotations

import importlib.util
import re
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from types import ModuleType

import pytest
from workspace import ROOT, folders, needed_by

MEMBERS = {
    "operator": "aisandbox-operator",
    "api_server": "aisandbox-api",
    "inference_server": "aisandbox-inference",
    "trainer_image": "aisandbox-trainer",
}
# What may differ between two Dockerfiles; the trainer has more lines than the others besides.
DIFFERENT = re.compile(
    r"^#.*|(?<=image_parts.py )\S+|^EXPOSE.*|(?<=ENTRYPOINT ).*|^CMD.*|(?<=title=).*|(?<=description=).*", re.MULTILINE
)


def _text(folder: str) -> str:
    return (ROOT / folder / "Dockerfile").read_text(encoding="utf-8")


@pytest.fixture(params=MEMBERS)
def folder(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def image_parts() -> ModuleType:
    spec = importlib.util.spec_from_file_location("image_parts", ROOT / "scripts" / "image_parts.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_dockerfiles_are_those_of_the_makefile() -> None:
    (names,) = re.findall(r"^IMAGES := (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    places = {name: "trainer_image" if name == "trainer" else name.replace("-", "_") for name in names.split()}
    assert set(places.values()) == set(MEMBERS)
    assert {path.parent.name for path in ROOT.glob("*/Dockerfile")} == set(MEMBERS)


def test_dockerfile_builds_its_member_and_starts_its_program(folder: str) -> None:
    assert folders()[MEMBERS[folder]] == folder
    assert f"RUN python scripts/image_parts.py {MEMBERS[folder]} /parts\n" in _text(folder)
    (module,) = re.findall(r'^ENTRYPOINT \["python", "-m", "(\w+)"\]$', _text(folder), re.MULTILINE)
    assert (ROOT / folder / "src" / module).is_dir()


def test_dockerfile_needs_no_other_image_and_no_feature_of_one_builder(folder: str) -> None:
    text = _text(folder)
    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) == {"python:3.13-slim"}
    assert "# syntax" not in text
    assert "--mount" not in text
    assert "<<" not in text


def test_dockerfile_ends_as_a_user_without_rights(folder: str) -> None:
    assert re.findall(r"^USER (.*)$", _text(folder), re.MULTILINE) == ["65532:65532"]


@pytest.mark.parametrize("other", ["api_server", "inference_server", "trainer_image"])
def test_dockerfiles_do_the_same_in_the_same_words(other: str) -> None:
    operator, lines = (list(filter(None, DIFFERENT.sub("", _text(each)).splitlines())) for each in ("operator", other))
    if other == "trainer_image":
        lines = [line for line in lines if line in operator]
    assert lines == operator


def test_dockerfile_takes_the_uv_of_the_makefile(folder: str) -> None:
    (version,) = re.findall(r"^UV_VERSION := (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert f" uv=={version} " in _text(folder)


@pytest.mark.parametrize("server", ["operator", "api_server", "inference_server"])
def test_image_of_a_server_has_no_pytorch(server: str, image_parts: ModuleType) -> None:
    needed = needed_by(MEMBERS[server])
    assert not {"torch", "stable-baselines3", "gymnasium"} & needed
    assert not [name for name in needed if image_parts.WITH_TORCH.match(f"{name}==")]


@pytest.mark.parametrize("server", ["operator", "api_server"])
def test_image_of_a_server_has_the_client_of_the_cluster(server: str) -> None:
    assert "kubernetes" in needed_by(MEMBERS[server])


def test_image_of_the_trainer_has_pytorch_but_no_client_of_the_cluster() -> None:
    needed = needed_by(MEMBERS["trainer_image"])
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
    for path in ("uv.lock", "pyproject.toml", "scripts/image_parts.py"):
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
        "operator/Dockerfile",
        "operator/src/aisandbox_operator/__pycache__/plan.cpython-313.pyc",
        "Makefile",
        "Tiltfile",
    ],
)
def test_context_has_nothing_that_images_are_not_made_of(path: str) -> None:
    assert not _is_in_context(path)

"""The Tiltfile names only what is there: images, Dockerfiles, folders, workloads, ports; and installs all of it."""

from __future__ import annotations

import copy
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from kustomize import Manifest
from manifests import Manifests
from starlark import StarlarkError
from tiltfile import Image, Tilt
from workspace import ROOT, folders, needed_by

TEXT = (ROOT / "Tiltfile").read_text(encoding="utf-8")
LIVE = "/tmp/app"
PROGRAM = """
import signal, sys, time
def drain(*_):
    time.sleep(0.3)
    sys.exit(print("drained", flush=True))
signal.signal(signal.SIGTERM, drain)
print("old", flush=True)
time.sleep(60)
"""


@pytest.fixture(scope="module")
def tilt() -> Tilt:
    return Tilt(ROOT).evaluate(TEXT)


def _problems(tilt: Tilt) -> Iterator[str]:
    """What in the Tiltfile does not exist; the rest of a sentence is for a person."""
    yield from _problems_of_images(tilt)
    workloads = {each["metadata"]["name"]: each for each in tilt.objects if each["kind"] in ("Deployment", *tilt.kinds)}
    hosts: set[str] = set()
    for resource in tilt.resources:
        if resource.workload not in workloads:
            yield f"workload {resource.workload}"
            continue
        for forward in resource.port_forwards:
            host, _, port = forward.partition(":")
            if int(port or host) not in _ports(workloads[resource.workload]):
                yield f"port {forward} of {resource.workload}"
            if host in hosts:
                yield f"port {host} of this machine, twice"
            hosts.add(host)
        yield from (f"dependency {name}" for name in resource.resource_deps if name not in workloads)


def _problems_of_images(tilt: Tilt) -> Iterator[str]:
    named = {image.partition(":dev")[0] for each in tilt.objects for image in _images(each)}
    for image in tilt.images:
        if image.ref not in named:
            yield f"image {image.ref}, which no object names"
        if not (ROOT / image.dockerfile).is_file():
            yield f"Dockerfile {image.dockerfile}"
        if not (ROOT / image.context / ".dockerignore").is_file():
            yield f"context {image.context}"
        yield from (f"ignored {path}" for path in image.ignore if not (ROOT / path).is_dir())
        yield from (f"synced {path}" for path, _ in _syncs(image) if not (ROOT / path).is_dir())
    yield from (f"build of {ref}" for ref in named - {image.ref for image in tilt.images})


def _images(each: Manifest) -> Iterator[str]:
    """The images a Deployment names, in environment variables too."""
    if each["kind"] == "Deployment":
        for container in each["spec"]["template"]["spec"]["containers"]:
            yield container["image"]
            yield from (entry["value"] for entry in container.get("env", []) if entry["name"] == "TRAINER_IMAGE")


def _ports(workload: Manifest) -> set[int]:
    if workload["kind"] != "Deployment":
        return set()
    containers = workload["spec"]["template"]["spec"]["containers"]
    return {port["containerPort"] for container in containers for port in container["ports"]}


def _syncs(image: Image) -> list[tuple[str, str]]:
    return [tuple(step["sync"]) for step in image.live_update if "sync" in step]


def test_tiltfile_names_only_what_is_there(tilt: Tilt) -> None:
    assert list(_problems(tilt)) == []


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (
            "'operator': ['operator', 'crds', 'kubernetes_api', 'process']",
            "'operator': ['operators', 'crds', 'kubernetes_api', 'process']",
            "Dockerfile operators/Dockerfile",
        ),
        (
            "    'operator': ['operator', 'crds', 'kubernetes_api', 'process'],\n",
            "",
            "build of localhost:5001/aisandbox/operator",
        ),
        ("'operator': ['operator',", "'oparator': ['operator',", "image localhost:5001/aisandbox/oparator"),
        ("aisandbox/'\n", "sandbox/'\n", "image localhost:5001/sandbox/trainer"),
        (
            "'model_store', 'process', 'proto'],\n    'trainer'",
            "'models', 'process', 'proto'],\n    'trainer'",
            "synced models/src",
        ),
        ("'.',\n", "'deploy',\n", "context deploy"),
        ("k8s_resource('aisandbox-api'", "k8s_resource('api'", "workload api"),
        ("'50052:50051'", "'50052:50052'", "port 50052:50052 of aisandbox-inference"),
        ("'9092:9090'", "'9091:9090'", "port 9091 of this machine, twice"),
        ("'aisandbox-inference', 'cart-pole']", "'aisandbox-inference', 'pole']", "dependency pole"),
    ],
)
def test_tiltfile_with_a_mistake_is_found_out(old: str, new: str, problem: str) -> None:
    assert TEXT.count(old) == 1
    found = list(_problems(Tilt(ROOT).evaluate(TEXT.replace(old, new))))
    assert any(each.startswith(problem) for each in found), found


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("deploy/samples/simulator", "deploy/samples/simulators", "No such file"),
        ("live_update=", "live_updates=", "live_updates"),
        ("k8s_kind(", "k8s_kinds(", "k8s_kinds"),
    ],
)
def test_tiltfile_that_cannot_be_evaluated_is_found_out(old: str, new: str, says: str) -> None:
    assert TEXT.count(old) == 1
    with pytest.raises((StarlarkError, FileNotFoundError, TypeError), match=says):
        Tilt(ROOT).evaluate(TEXT.replace(old, new))


def test_tiltfile_installs_what_the_overlay_and_the_samples_have(tilt: Tilt) -> None:
    expected = Manifests.of("overlays/kind", "samples/simulator", "samples/runs").objects
    assert sorted(map(_name, tilt.objects)) == sorted(map(_name, expected))


def _name(each: Manifest) -> tuple[str, str]:
    return each["kind"], each["metadata"]["name"]


def test_tiltfile_changes_nothing_of_an_object_but_the_command(tilt: Tilt) -> None:
    untouched = {_name(each): each for each in Manifests.of("overlays/kind", "samples/simulator").objects}
    commands = {}
    for each in tilt.objects:
        before = untouched.get(_name(each))
        if before is None or each == before:
            continue
        changed = copy.deepcopy(each)
        (container,), (original,) = (one["spec"]["template"]["spec"]["containers"] for one in (changed, before))
        assert not {"command", "args"} & original.keys()  # the image's entry point
        commands[container["name"]] = container.pop("command")[-3:]
        assert changed == before
    assert commands == {
        "operator": ["python", "-m", "aisandbox_operator"],
        "api-server": ["python", "-m", "aisandbox_api"],
        "inference-server": ["python", "-m", "aisandbox_inference"],
    }


def test_tiltfile_watches_the_code_that_is_in_an_image_and_no_other(tilt: Tilt) -> None:
    in_no_image = set(folders().values())
    for image in tilt.images:
        member = _member(image)
        own = {folders()[name] for name in needed_by(member) & folders().keys()}
        assert {f"{folder}/src" for folder in folders().values()} - set(image.ignore) - {"cli/src"} == {
            f"{folder}/src" for folder in own
        }, image.ref
        if image.live_update:
            assert {path for path, _ in _syncs(image)} == {f"{folder}/src" for folder in own}
        in_no_image -= own
    assert in_no_image == {"cli"}  # .dockerignore leaves it out


def _member(image: Image) -> str:
    """Which member an image's Dockerfile builds."""
    found = re.search(r"image_parts\.py (\S+)", (ROOT / image.dockerfile).read_text(encoding="utf-8"))
    assert found
    return found[1]


def test_tiltfile_updates_the_servers_in_place_and_builds_the_trainer(tilt: Tilt) -> None:
    in_place = {image.ref.rpartition("/")[2]: bool(image.live_update) for image in tilt.images}
    assert in_place == {"operator": True, "api-server": True, "inference-server": True, "trainer": False}
    for image in tilt.images:
        assert image.match_in_env_vars == image.ref.endswith("/trainer")
        if image.live_update:
            assert {remote for _, remote in _syncs(image)} == {LIVE}
            assert image.live_update[-1] == {"run": "kill $(cat /tmp/program.pid)"}


def test_tiltfile_starts_sample_runs_by_hand_and_shows_their_pods(tilt: Tilt) -> None:
    runs = {each["metadata"]["name"] for each in tilt.objects if each["kind"] == "TrainingRun"}
    by_hand = {each.workload: each.extra_pod_selectors for each in tilt.resources if each.manual}
    assert by_hand == {name: [{"aisandbox.dev/run": name}] for name in runs}
    assert len(runs) > 0


def test_tiltfile_runs_only_targets_of_the_makefile(tilt: Tilt) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for command in tilt.commands:
        program, *arguments = shlex.split(command)
        assert program == "make"
        (target,) = (each for each in arguments if not each.startswith("-"))
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


@pytest.mark.skipif(sys.platform == "win32", reason="the script of a container")
@pytest.mark.timeout(60)
def test_tiltfile_servers_take_up_a_changed_file_when_killed_and_end_in_good_order(tilt: Tilt, tmp_path: Path) -> None:
    (command,) = (
        container["command"]
        for each in tilt.objects
        for container in each.get("spec", {}).get("template", {}).get("spec", {}).get("containers", [])
        if container["name"] == "operator"
    )
    (tmp_path / "app" / "__pycache__").mkdir(parents=True)
    program = tmp_path / "app" / "program.py"
    program.write_text(PROGRAM)
    script = command[2].replace("/tmp/", f"{tmp_path}/live-").replace(" /app", f" {tmp_path}/app")
    with subprocess.Popen(
        ["sh", "-c", script, "restart", sys.executable, "-m", "program"], cwd="/", stdout=-1
    ) as shell:
        try:
            assert shell.stdout is not None
            assert shell.stdout.readline() == b"old\n"
            assert not (tmp_path / "live-app" / "__pycache__").exists()
            (tmp_path / "live-app" / "program.py").write_text(PROGRAM.replace("old", "new"))
            subprocess.run(["sh", "-c", f"kill $(cat {tmp_path}/live-program.pid)"], check=True)
            assert shell.stdout.readline() == b"drained\n"
            assert shell.stdout.readline() == b"new\n"
            shell.send_signal(signal.SIGTERM)
            assert shell.stdout.readline() == b"drained\n"
            assert shell.wait(10) == 0
        finally:
            shell.kill()

"""The samples are what they say: runs that may be started, a simulator they find, applications of both GitOps tools."""

from __future__ import annotations

import pytest
import yaml
from aisandbox_crds.codec import run_from_json
from aisandbox_crds.spec import FakeEnvironment, GrpcEnvironment, GymnasiumEnvironment
from aisandbox_crds.trainingrun import TrainingRun
from aisandbox_crds.validation import validate_spec
from manifests import DEPLOY, Manifests, rendered


@pytest.fixture
def runs() -> list[TrainingRun]:
    return [run_from_json(each) for each in Manifests.of("samples/runs").objects]


def test_runs_may_be_started(runs: list[TrainingRun]) -> None:
    for run in runs:
        validate_spec(run.spec)


def test_runs_show_each_kind_of_environment(runs: list[TrainingRun]) -> None:
    kinds = {type(run.spec.environment) for run in runs}
    assert kinds == {FakeEnvironment, GrpcEnvironment, GymnasiumEnvironment}


def test_run_finds_the_simulator(runs: list[TrainingRun]) -> None:
    samples = Manifests.of("samples/simulator")
    (environment,) = (run.spec.environment for run in runs if isinstance(run.spec.environment, GrpcEnvironment))
    name, _, port = environment.address.partition(":")
    service = samples.one("Service", name)
    assert int(port) in [each["port"] for each in service["spec"]["ports"]]
    ((_, _, container),) = samples.containers()
    arguments = [*container["command"], *container["args"]]
    assert arguments[arguments.index("--port") + 1] == port
    assert environment.environments <= int(arguments[arguments.index("--environments") + 1])


def test_csharp_sample_runs_without_a_volume_and_is_found_by_its_run() -> None:
    sample = Manifests(tuple(rendered(DEPLOY.parent / "samples/dotnet/CartPole")))
    ((_, pod, container),) = sample.containers()
    assert "volumes" not in pod  # kubectl drain refuses to move a pod with an emptyDir
    assert (sample.environ("cartpole")["TMPDIR"], container["image"]) == (
        "/dev/shm",
        "localhost:5001/aisandbox/cartpole:dev",
    )
    run = run_from_json(sample.one("TrainingRun", "cartpole"))
    validate_spec(run.spec)
    assert isinstance(run.spec.environment, GrpcEnvironment)
    name, _, port = run.spec.environment.address.partition(":")
    service = sample.one("Service", name)
    assert (
        service["spec"]["selector"].items()
        <= sample.one("Deployment", name)["spec"]["template"]["metadata"]["labels"].items()
    )
    assert [each["port"] for each in service["spec"]["ports"]] == [int(port)]


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("argocd-application.yaml", {"Application"}),
        ("flux-kustomization.yaml", {"GitRepository", "Kustomization"}),
    ],
)
def test_gitops_sample_installs_one_folder(name: str, kinds: set[str]) -> None:
    objects = list(yaml.safe_load_all((DEPLOY / "samples/gitops" / name).read_text()))
    assert {each["kind"] for each in objects} == kinds
    spec = objects[-1]["spec"]
    assert (spec.get("source", {}).get("path") or spec["path"]).removeprefix("./") == "aisandbox"

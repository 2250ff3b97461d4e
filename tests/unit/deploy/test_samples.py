"""The samples are what they say: runs that may be started, a simulator they find, applications of both GitOps tools."""

from __future__ import annotations

import pytest
import yaml
from aisandbox_crds.codec import run_from_json
from aisandbox_crds.spec import FakeEnvironment, GrpcEnvironment, GymnasiumEnvironment
from aisandbox_crds.trainingrun import TrainingRun
from aisandbox_crds.validation import validate_spec
from manifests import DEPLOY, Manifest, Manifests, rendered


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


def _csharp_sample(name: str, kind: str) -> tuple[Manifests, Manifest, dict[str, str]]:
    """Its manifests, its container, and the environment variables of that."""
    sample = Manifests(tuple(rendered(DEPLOY.parent / "samples/dotnet" / name)))
    template = sample.one(kind, name.lower())["spec"]["template"]
    (container,) = template["spec"]["containers"]
    assert "volumes" not in template["spec"]  # kubectl drain refuses to move a pod with an emptyDir
    assert container["image"] == f"localhost:5001/aisandbox/{name.lower()}:dev"
    service = sample.one("Service", name.lower())
    assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    assert [each["port"] for each in service["spec"]["ports"]] == [50061]
    environ = {each["name"]: each["value"] for each in container["env"]}
    assert environ["TMPDIR"] == "/dev/shm"
    return sample, container, environ


def test_csharp_sample_that_starts_its_own_training_is_found_by_it() -> None:
    _, container, environ = _csharp_sample("CartPole", "Job")
    assert container["args"] == ["train"]
    assert environ["SIMULATOR_ADDRESS"] == "cartpole:50061"
    assert environ["AISANDBOX_ADDRESS"] == "aisandbox-api:50051"
    assert environ["REQUEST_ID"]


def test_csharp_sample_is_found_by_its_run() -> None:
    sample, _, _ = _csharp_sample("Rover", "Deployment")
    run = run_from_json(sample.one("TrainingRun", "rover"))
    validate_spec(run.spec)
    assert isinstance(run.spec.environment, GrpcEnvironment)
    assert run.spec.environment.address == "rover:50061"


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

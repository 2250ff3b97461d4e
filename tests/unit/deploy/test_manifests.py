"""What is installed fits together: names, ports, probes, volumes, images, and what each overlay promises."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from aisandbox_api.health import LIVENESS
from aisandbox_crds.spec import Algorithm, TrainingRunSpec
from aisandbox_operator.job_manifest import job_manifest
from aisandbox_operator.pod_template_limits import RESERVED
from aisandbox_operator.settings import Settings
from manifests import (
    CLUSTER_SCOPED,
    DEPLOY,
    Manifests,
    pod_labels,
    quantity,
    rendered,
    selects,
    split_image,
    without_hash,
)
from pod_security import violations

OVERLAYS = ("overlays/kind", "overlays/production")
PORTS_OF_PROBES = {"operator": "probes", "api-server": "grpc", "inference-server": "grpc", "simulator": "grpc"}


@pytest.fixture(params=OVERLAYS)
def manifests(request: pytest.FixtureRequest) -> Manifests:
    return Manifests.of(request.param, "samples/simulator")


@pytest.fixture
def kind() -> Manifests:
    return Manifests.of("overlays/kind")


@pytest.fixture
def production() -> Manifests:
    return Manifests.of("overlays/production")


def test_objects_are_in_one_namespace(manifests: Manifests) -> None:
    (namespace,) = manifests.names("Namespace")
    for each in manifests.objects:
        expected = None if each["kind"] in CLUSTER_SCOPED else namespace
        assert each["metadata"].get("namespace") == expected, each["metadata"]["name"]


def test_objects_are_there_once(manifests: Manifests) -> None:
    names = [(each["kind"], each["metadata"]["name"]) for each in manifests.objects]
    assert len(set(names)) == len(names)


def test_parts_are_all_there(manifests: Manifests) -> None:
    parts = {"aisandbox-operator", "aisandbox-api", "aisandbox-inference"}
    assert manifests.names("Deployment") >= parts
    assert manifests.names("Service") >= parts
    assert manifests.names("ServiceAccount") == parts | {"aisandbox-trainer"}
    assert manifests.names("CustomResourceDefinition") == {"trainingruns.aisandbox.dev"}


def test_deployments_select_their_own_pods_only(manifests: Manifests) -> None:
    for deployment in manifests.all("Deployment"):
        selected = [
            each["metadata"]["name"]
            for each in manifests.all("Deployment")
            if selects(deployment["spec"]["selector"], pod_labels(each))
        ]
        assert selected == [deployment["metadata"]["name"]]


def test_services_lead_to_ports_of_one_deployment(manifests: Manifests) -> None:
    for service in manifests.all("Service"):
        selector = {"matchLabels": service["spec"]["selector"]}
        (target,) = (each for each in manifests.all("Deployment") if selects(selector, pod_labels(each)))
        (container,) = target["spec"]["template"]["spec"]["containers"]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        for port in service["spec"]["ports"]:
            assert port["name"] == port["targetPort"]
            assert ports[port["targetPort"]] == port["port"], "a headless Service does not translate ports"


def test_containers_have_probes_on_their_ports(manifests: Manifests) -> None:
    for _, _, container in manifests.containers():
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        name = PORTS_OF_PROBES[container["name"]]
        wanted = ["startupProbe", "readinessProbe"] + ["livenessProbe"] * (container["name"] != "simulator")
        for probe in wanted:
            if name == "grpc":
                assert container[probe]["grpc"]["port"] == ports[name]
            else:
                path = "/readyz" if probe == "readinessProbe" else "/healthz"
                assert container[probe]["httpGet"] == {"path": path, "port": name}


def test_api_server_is_not_restarted_for_what_a_restart_does_not_fix(manifests: Manifests) -> None:
    """Without the Kubernetes API it is not ready, but alive."""
    (container,) = (each for name, _, each in manifests.containers() if name == "aisandbox-api")
    assert "service" not in container["readinessProbe"]["grpc"]
    for probe in ("startupProbe", "livenessProbe"):
        assert container[probe]["grpc"]["service"] == LIVENESS


def test_containers_have_time_to_end(manifests: Manifests) -> None:
    for name, pod, container in manifests.containers():
        if name not in ("aisandbox-api", "aisandbox-inference"):
            continue
        needed = float(manifests.environ(name)["STOP_GRACE_SECONDS"])
        sleep = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        age = float(manifests.environ(name)["MAX_CONNECTION_AGE_SECONDS"])
        assert 1.1 * age < sleep, f"{name}: gRPC asks clients to connect again after this time and up to a tenth"
        needed += sleep
        assert needed < pod.get("terminationGracePeriodSeconds", 30), name


def test_containers_have_requests_and_limits(manifests: Manifests) -> None:
    for name, _, container in manifests.containers():
        resources = container["resources"]
        for amount in ("cpu", "memory"):
            assert quantity(resources["requests"][amount]) <= quantity(resources["limits"][amount]), name


def test_pods_keep_the_restricted_standard(manifests: Manifests) -> None:
    (namespace,) = manifests.all("Namespace")
    for mode in ("enforce", "audit", "warn"):
        assert namespace["metadata"]["labels"][f"pod-security.kubernetes.io/{mode}"] == "restricted"
    for name, pod, container in manifests.containers():
        assert violations(pod, container) == [], name


def test_containers_write_only_where_a_volume_is(manifests: Manifests) -> None:
    for name, pod, container in manifests.containers():
        assert container["securityContext"]["readOnlyRootFilesystem"] is True, name
        assert pod["securityContext"]["runAsUser"] == 65532, name
        mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
        assert mounted == {volume["name"] for volume in pod.get("volumes", [])}, name
        variables = {each["name"]: each.get("value") for each in container["env"]}
        assert variables["HOME"] == variables["TMPDIR"] == "/dev/shm", name


def test_pods_have_no_volume_that_a_drain_would_stop_at(manifests: Manifests) -> None:
    """``kubectl drain`` and the cluster autoscaler leave a node alone that has a pod with local storage."""
    for name, pod, _ in manifests.containers():
        local = [each["name"] for each in pod.get("volumes", []) if {"emptyDir", "hostPath"} & each.keys()]
        assert local == [], name


def test_what_pods_refer_to_is_there(manifests: Manifests) -> None:
    for name, pod, container in manifests.containers():
        assert pod.get("serviceAccountName", "default") in manifests.names("ServiceAccount") | {"default"}, name
        for volume in pod.get("volumes", []):
            if claim := volume.get("persistentVolumeClaim"):
                assert claim["claimName"] in manifests.names("PersistentVolumeClaim"), name
        for source in container.get("envFrom", []):
            settings = source["configMapRef"]["name"]
            assert settings in manifests.names("ConfigMap"), name
            assert without_hash(settings) != settings, f"{name} would keep running with the settings of before"


def test_volume_is_written_only_by_those_who_must(manifests: Manifests) -> None:
    access = {}
    for name, pod, container in manifests.containers():
        for mount in container.get("volumeMounts", []):
            (volume,) = (each for each in pod["volumes"] if each["name"] == mount["name"])
            if claim := volume.get("persistentVolumeClaim"):
                access[name] = (mount.get("readOnly", False), claim.get("readOnly", False))
    assert access == {"aisandbox-api": (False, False), "aisandbox-inference": (True, True)}


def test_images_have_a_tag_that_says_which(manifests: Manifests) -> None:
    images = {container["image"] for _, _, container in manifests.containers()}
    images.add(manifests.environ("aisandbox-operator")["TRAINER_IMAGE"])
    for image in images:
        name, tag, digest = split_image(image)
        assert digest or tag not in ("", "latest"), image
        assert name.split("/")[0] != "aisandbox", f"the overlay names no registry for {image}"


def test_trainers_have_the_version_of_the_operator(kind: Manifests, production: Manifests) -> None:
    for manifests in (kind, production):
        (operator,) = (each["image"] for name, _, each in manifests.containers() if name == "aisandbox-operator")
        trainer = manifests.environ("aisandbox-operator")["TRAINER_IMAGE"]
        assert trainer == operator.replace("aisandbox/operator", "aisandbox/trainer")


def test_operator_is_alone(manifests: Manifests) -> None:
    spec = manifests.one("Deployment", "aisandbox-operator")["spec"]
    assert (spec["replicas"], spec["strategy"]["type"]) == (1, "Recreate")


def test_kind_leaves_room_for_trainers(kind: Manifests) -> None:
    """Of two cores a kind node's own pods take 0.85; five trainers and a simulator must fit in the rest."""
    system = sum(quantity(container["resources"]["requests"]["cpu"]) for _, _, container in kind.containers())
    ((_, _, simulator),) = Manifests.of("samples/simulator").containers()
    trainer = json.loads(kind.environ("aisandbox-operator")["TRAINER_RESOURCES"])["requests"]["cpu"]
    assert system + quantity(simulator["resources"]["requests"]["cpu"]) + 5 * quantity(trainer) <= 2 - 0.85


def test_kind_has_a_claim_that_kind_can_give(kind: Manifests) -> None:
    claim = kind.one("PersistentVolumeClaim", "aisandbox-models")["spec"]
    assert (claim["accessModes"], claim["storageClassName"]) == (["ReadWriteOnce"], "standard")


def test_kind_replaces_nothing_at_a_second_apply(kind: Manifests) -> None:
    """kubectl calls every PodDisruptionBudget configured, since its selector is sent again each time."""
    assert not kind.all("PodDisruptionBudget")


def test_production_shares_its_files_between_nodes(production: Manifests) -> None:
    claim = production.one("PersistentVolumeClaim", "aisandbox-models")["spec"]
    assert claim["accessModes"] == ["ReadWriteMany"]


def test_production_has_two_of_each_server(production: Manifests) -> None:
    assert production.one("Deployment", "aisandbox-api")["spec"]["replicas"] == 2
    (autoscaler,) = production.all("HorizontalPodAutoscaler")
    target = autoscaler["spec"]["scaleTargetRef"]
    scaled = production.one(target["kind"], target["name"])
    assert scaled["metadata"]["name"] == "aisandbox-inference"
    assert "replicas" not in scaled["spec"], "an apply would undo what the autoscaler has done"
    assert 2 <= autoscaler["spec"]["minReplicas"] < autoscaler["spec"]["maxReplicas"]


def test_production_loses_one_server_at_a_time(production: Manifests) -> None:
    budgets = {each["metadata"]["name"]: each["spec"] for each in production.all("PodDisruptionBudget")}
    assert budgets.keys() == {"aisandbox-api", "aisandbox-inference"}
    for name, budget in budgets.items():
        assert budget["maxUnavailable"] == 1
        assert selects(budget["selector"], pod_labels(production.one("Deployment", name)))
    for name in budgets:
        rolling = production.one("Deployment", name)["spec"]["strategy"]["rollingUpdate"]
        assert rolling == {"maxUnavailable": 0, "maxSurge": 1}


def test_production_spreads_over_nodes_and_zones(production: Manifests) -> None:
    for name in ("aisandbox-api", "aisandbox-inference"):
        deployment = production.one("Deployment", name)
        constraints = deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]
        keys = [each["topologyKey"] for each in constraints]
        assert keys == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
        assert all(selects(each["labelSelector"], pod_labels(deployment)) for each in constraints)


def test_production_counts_all_pods_but_servers(production: Manifests) -> None:
    (priority,) = production.all("PriorityClass")
    assert not priority.get("globalDefault")
    assert priority["preemptionPolicy"] == "Never"
    name = priority["metadata"]["name"]
    assert {pod.get("priorityClassName") for _, pod, _ in production.containers()} == {name}
    assert name in RESERVED["priorityClasses"], "a run with it would not be counted"
    quota = production.one("ResourceQuota", "aisandbox-trainers")["spec"]
    assert quota["scopeSelector"]["matchExpressions"] == [
        {"scopeName": "PriorityClass", "operator": "NotIn", "values": [name]}
    ]
    requests = json.loads(production.environ("aisandbox-operator")["TRAINER_RESOURCES"])["requests"]
    for resource in ("cpu", "memory"):
        most = quantity(quota["hard"][f"requests.{resource}"])
        assert most >= int(quota["hard"]["pods"]) * quantity(requests[resource])


def test_production_holds_as_many_runs_as_the_service_admits(production: Manifests) -> None:
    hard = production.one("ResourceQuota", "aisandbox-objects")["spec"]["hard"]
    assert int(hard["count/trainingruns.aisandbox.dev"]) > int(production.environ("aisandbox-api")["MAX_PENDING_RUNS"])
    claim = production.one("PersistentVolumeClaim", "aisandbox-models")["spec"]["resources"]["requests"]["storage"]
    assert quantity(hard["requests.storage"]) > quantity(claim)


def test_kind_counts_nothing(kind: Manifests) -> None:
    for name in ("PriorityClass", "ResourceQuota", "LimitRange"):
        assert not kind.all(name)


def test_production_keeps_what_pruning_would_destroy(production: Manifests) -> None:
    for kind in ("Namespace", "CustomResourceDefinition", "PersistentVolumeClaim"):
        for each in production.all(kind):
            annotations = each["metadata"]["annotations"]
            assert annotations["argocd.argoproj.io/sync-options"] == "Prune=false,Delete=false"
            assert annotations["kustomize.toolkit.fluxcd.io/prune"] == "disabled"


def test_openshift_chooses_users_and_groups(tmp_path: Path) -> None:
    """Nothing names one, in no pod of ours and in no trainer's."""
    places = {"resources": "overlays/production", "components": "components/openshift"}
    overlay = {key: [os.path.relpath(DEPLOY / place, tmp_path.resolve())] for key, place in places.items()}
    (tmp_path / "kustomization.yaml").write_text(json.dumps({"namespace": "games", **overlay}))
    manifests = Manifests(tuple(rendered(tmp_path)))
    ids = {"runAsUser", "runAsGroup", "fsGroup"}
    for name, pod, container in manifests.containers():
        assert not ids & (pod["securityContext"].keys() | container["securityContext"].keys()), name
        assert violations(pod, container) == ["runAsUser"], f"{name}: the cluster sets it"
    settings = Settings.from_environ(manifests.environ("aisandbox-operator"))
    run = TrainingRunSpec(Algorithm.PPO, 1000)
    trainer = job_manifest("walk", "uid", run, settings, 0, suspended=False)["spec"]["template"]["spec"]
    assert not ids & trainer["securityContext"].keys()
    assert trainer["securityContext"]["runAsNonRoot"] is True

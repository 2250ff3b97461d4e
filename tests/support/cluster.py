"""The cluster under test with an administrator's permissions: the resources that a user does not touch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aisandbox_crds.trainingrun import API_VERSION, GROUP, KIND, RUN_LABEL, VERSION
from kubectl import Kubectl, Manifest
from kubernetes import client, config
from waiting import wait_until

PLURAL = "trainingruns"
MODELS = "/var/lib/aisandbox"
CONNECTIONS = 100
"""Followed logs keep one each."""

ENDLESS: Manifest = {
    "algorithm": "PPO",
    "totalTimesteps": 10**9,
    "checkpointEveryTimesteps": 1024,
    "hyperparameters": {"n_steps": "256", "batch_size": "256", "n_epochs": "1"},
    "environment": {"gymnasium": {"id": "CartPole-v1"}},
}
"""A spec that trains at once, saves often and does not end by itself."""

SHORT: Manifest = {"algorithm": "PPO", "totalTimesteps": 512, "hyperparameters": {"n_steps": "128"}}
"""A spec that succeeds within a second of training."""


def manifest_of(name: str, **spec: Any) -> Manifest:
    """A TrainingRun as a user writes it."""
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}, "spec": spec}


class Cluster:
    """One namespace of one cluster; an empty ``context`` means the current one. Missing objects are None."""

    def __init__(self, context: str, namespace: str) -> None:
        self.namespace = namespace
        self.kubectl = Kubectl(context, namespace)
        settings = client.Configuration()
        load: Any = config.load_kube_config
        load(context=context or None, client_configuration=settings)
        settings.connection_pool_maxsize = CONNECTIONS
        api = client.ApiClient(settings)
        self.core: Any = client.CoreV1Api(api)
        self.apps: Any = client.AppsV1Api(api)
        self.custom: Any = client.CustomObjectsApi(api)
        self._authorization: Any = client.AuthorizationV1Api(api)

    def run(self, name: str) -> Manifest | None:
        """The TrainingRun."""
        return self._get(GROUP, VERSION, PLURAL, name)

    def status(self, name: str) -> dict[str, Any]:
        """The TrainingRun's status; empty when it has none yet."""
        run = self.run(name)
        assert run is not None, f"there is no TrainingRun {name}"
        status: dict[str, Any] = run.get("status", {})
        return status

    def condition(self, name: str, kind: str) -> dict[str, Any]:
        """A condition of the run; empty when it has none of that type."""
        return next((each for each in self.status(name).get("conditions", []) if each["type"] == kind), {})

    def runs(self) -> list[Manifest]:
        """All TrainingRuns."""
        return self._list(GROUP, VERSION, PLURAL, "")

    def job(self, name: str) -> Manifest | None:
        """The Job of a run."""
        return self._get("batch", "v1", "jobs", name)

    def jobs(self, selector: str = RUN_LABEL) -> list[Manifest]:
        """The Jobs of runs."""
        return self._list("batch", "v1", "jobs", selector)

    def pods(self, run: str) -> list[Any]:
        """The pods of a run, oldest first."""
        return self.pods_with(f"{RUN_LABEL}={run}")

    def pods_with(self, selector: str) -> list[Any]:
        """The pods with these labels, oldest first."""
        pods = self.core.list_namespaced_pod(self.namespace, label_selector=selector).items
        return sorted(pods, key=lambda pod: (pod.metadata.creation_timestamp, pod.metadata.name))

    def staying_pods(self, selector: str) -> list[str]:
        """The names of the pods with these labels that nobody has deleted, oldest first."""
        return [pod.metadata.name for pod in self.pods_with(selector) if pod.metadata.deletion_timestamp is None]

    def events(self, run: str) -> list[str]:
        """The events about the run itself, "REASON: message"."""
        events = self.core.list_namespaced_event(
            self.namespace, field_selector=f"involvedObject.kind={KIND},involvedObject.name={run}"
        ).items
        return [f"{event.reason}: {event.message}" for event in events]

    def files(self, run: str) -> list[str]:
        """The run's files on the volume, relative to its folder, as the inference-server sees them."""
        folder = f"{MODELS}/runs/{run}"
        script = f"if cd {folder} 2>/dev/null; then find . -type f; fi"
        found = self.kubectl("exec", "deployment/aisandbox-inference", "--", "sh", "-c", script)
        return sorted(line.removeprefix("./") for line in found.splitlines())

    def trainer_image(self) -> str:
        """What the operator starts; it hosts simulators too."""
        operator = self.kubectl.json("get", "deployment", "aisandbox-operator")
        variables = operator["spec"]["template"]["spec"]["containers"][0]["env"]
        return str(next(each["value"] for each in variables if each["name"] == "TRAINER_IMAGE"))

    def may(
        self, user: str, verb: str, resource: str, namespace: str, group: str = GROUP, groups: Sequence[str] = ()
    ) -> bool:
        """What ``kubectl auth can-i --as`` asks, of KIND, KIND/PART or KIND:NAME; an empty ``namespace`` means all."""
        whole, _, name = resource.partition(":")
        kind, _, part = whole.partition("/")
        attributes = {"verb": verb, "resource": kind, "subresource": part, "group": group, "namespace": namespace}
        attributes |= {"name": name} if name else {}
        review = {"spec": {"user": user, "groups": list(groups), "resourceAttributes": attributes}}
        return bool(self._authorization.create_subject_access_review(review).status.allowed)

    def until_phase(self, name: str, *phases: str, seconds: float = 120.0) -> dict[str, Any]:
        """The status once the run is in one of the phases."""
        return wait_until(lambda: self.status(name), lambda status: status.get("phase") in phases, seconds=seconds)

    def until_gone(self, name: str, seconds: float = 120.0) -> None:
        """Waits until nothing of the run is left but its files."""
        wait_until(
            lambda: [self.run(name), self.job(name), [pod.metadata.name for pod in self.pods(name)]],
            lambda left: not any(left),
            seconds=seconds,
        )

    def restart(self, deployment: str, seconds: float = 180.0) -> None:
        """Replaces the pods of a Deployment and waits for the new ones."""
        self.kubectl("rollout", "restart", f"deployment/{deployment}")
        self.until_rolled_out(deployment, seconds)

    def until_rolled_out(self, deployment: str, seconds: float = 180.0) -> None:
        """Waits until the Deployment's pods are the newest and ready."""
        self.kubectl("rollout", "status", f"deployment/{deployment}", f"--timeout={seconds:.0f}s", seconds=seconds + 10)

    def _get(self, group: str, version: str, plural: str, name: str) -> Manifest | None:
        try:
            found: Manifest = self.custom.get_namespaced_custom_object(group, version, self.namespace, plural, name)
        except client.ApiException as error:
            if error.status == 404:
                return None
            raise
        return found

    def _list(self, group: str, version: str, plural: str, selector: str) -> list[Manifest]:
        found = self.custom.list_namespaced_custom_object(
            group, version, self.namespace, plural, label_selector=selector or None
        )
        items: list[Manifest] = found["items"]
        return items

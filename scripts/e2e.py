"""Installs the system on a cluster as users do, runs ``tests/e2e`` against it, and removes it again.

Makes a kind cluster of its own, ``aisandbox-e2e``, with a kubeconfig of its own (build/e2e/kubeconfig), so that
your kubeconfig is not changed. Steps that are independent of each other run at the same time. Environment variables:

  E2E_CONTEXT       "current" or the name of a context: install to this cluster instead, and leave it installed
  E2E_KEEP=1        keep the own cluster at the end, and use one that was kept
  KIND_NODE_IMAGE   the node image (default: kind's)
  REGISTRY          where images for a cluster that stays are pushed if a registry answers there (localhost:5001);
                    otherwise kind's nodes load them
  TAG               use the images with this tag that are there already, and build none

Further arguments are pytest's: ``python scripts/e2e.py -k training``. The exit code is pytest's; 2 if it never ran.
Reports and, after a failure, logs are in build/e2e-logs.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

from cluster_report import collect
from e2e_images import SERVERS, TRAINER, Images, answers
from kubectl import Kubectl
from stages import Clock, Commands, Stopped

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "build" / "e2e"
LOGS = ROOT / "build" / "e2e-logs"
CLUSTER, NAMESPACE, PULLING = "aisandbox-e2e", "aisandbox", "aisandbox-e2e-pull"
DEPLOYMENTS = ("aisandbox-operator", "aisandbox-api", "aisandbox-inference")
TOOLS = {
    "docker": "https://docs.docker.com/engine/install/",
    "kind": "https://kind.sigs.k8s.io/docs/user/quick-start/#installation",
    "kubectl": "https://kubernetes.io/docs/tasks/tools/",
}


@dataclass
class Installation:
    """The cluster, the images and the installation. ``kind`` is the cluster's name for kind, empty for any other."""

    context: str
    kind: str
    own: bool
    images: Images
    commands: Commands
    clock: Clock

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        """Runs kubectl on the cluster under test."""
        return self.commands.run("kubectl", f"--context={self.context}", *arguments, text=text)

    def make_cluster(self) -> None:
        """Creates the own cluster unless a kept one responds and may be used; any other cluster must respond."""
        if not self.own:
            self.kubectl("get", "nodes", "--request-timeout=10s")
            return
        if CLUSTER in self.commands.run("kind", "get", "clusters").split():
            if os.environ.get("E2E_KEEP") == "1" and self._alive():
                self.clock.say(f"uses the kept cluster {CLUSTER}")
                return
            self.remove_cluster()
        node = os.environ.get("KIND_NODE_IMAGE")
        chosen = ("--image", node) if node else ()
        with self.clock.stage("cluster made"):
            self._create("kind", "create", "cluster", "--name", CLUSTER, "--wait", "180s", *chosen)
            self.kubectl("--namespace=default", "wait", "--for=create", "serviceaccount/default", "--timeout=60s")
        if answers(self.images.registry):
            self._show_registry(self.images.registry)

    def _create(self, *command: str) -> None:
        """Again, twice: kind waits half a minute for the node to boot, which takes longer on a busy machine."""
        for _ in range(2):
            try:
                self.commands.run(*command)
                return
            except Stopped as error:
                self.clock.say(f"kind made no cluster, once more: {str(error).splitlines()[-1]}")
                self.remove_cluster()
        self.commands.run(*command)

    def remove_cluster(self) -> None:
        """The own cluster and all that was in it."""
        self.commands.run("kind", "delete", "cluster", "--name", CLUSTER)

    def _alive(self) -> bool:
        try:
            self.commands.run("kind", "export", "kubeconfig", "--name", CLUSTER)
            self.kubectl("get", "nodes", "--request-timeout=10s")
        except Stopped:
            return False
        return True

    def _show_registry(self, registry: str) -> None:
        """Tells the nodes where the registry is, unless they know: https://kind.sigs.k8s.io/docs/user/local-registry/."""
        port = registry.rpartition(":")[2]
        folder = f"/etc/containerd/certs.d/{registry}"
        found = self.commands.run("docker", "ps", "--filter", f"publish={port}", "--format", "{{.Names}}").split()
        for node in self.commands.run("kind", "get", "nodes", "--name", CLUSTER).split():
            known = self.commands.run("docker", "exec", node, "sh", "-c", f"test -d {folder} && echo yes || true")
            if known.strip() or not found:
                continue
            with contextlib.suppress(Stopped):  # it is in that network already
                self.commands.run("docker", "network", "connect", "kind", found[0])
            inside = self.commands.run("docker", "port", found[0]).split("/")[0]
            write = f"mkdir -p {folder} && cat > {folder}/hosts.toml"
            hosts = f'[host."http://{found[0]}:{inside}"]\n'
            self.commands.run("docker", "exec", "-i", node, "sh", "-c", write, text=hosts)

    def pull_trainer(self) -> None:
        """Has every node begin to fetch the largest image; the tests that need it wait for the end of these pods.

        After the servers run, because a kubelet fetches one image at a time.
        """
        self.remove_pulling()
        image = self.images.name(TRAINER)
        for node in self.kubectl("get", "nodes", "-o", "name").split():
            pod = pulling_pod(node.removeprefix("node/"), image)
            self.kubectl("--namespace=default", "apply", "-f", "-", text=json.dumps(pod))

    def remove_pulling(self) -> None:
        """Removes those pods."""
        self.kubectl("--namespace=default", "delete", "pod", f"--selector=app={PULLING}", "--now")

    def install(self, cluster: Future[None]) -> None:
        """``kubectl apply -k`` of the kind overlay with these images, and the wait for what it starts."""
        self.images.provide(SERVERS, self.kind, cluster)
        cluster.result()
        overlay = WORK / "install"
        overlay.mkdir(exist_ok=True)
        kustomization = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": ["../../../deploy/overlays/kind"],
            "images": self.images.replacements(),
        }
        (overlay / "kustomization.yaml").write_text(json.dumps(kustomization, indent=2))
        with self.clock.stage("installed"):
            self.kubectl("apply", "-k", str(overlay))
            for deployment in DEPLOYMENTS:
                ready = ("rollout", "status", f"deployment/{deployment}", "--timeout=180s")
                self.kubectl(f"--namespace={NAMESPACE}", *ready)

    def test(self, arguments: list[str]) -> int:
        """Runs pytest and returns its exit code; its output goes through."""
        command = [sys.executable, "-m", "pytest", "tests/e2e", f"--kube-context={self.context}", f"--logs={LOGS}"]
        command += ["tests/contract", f"--kubernetes-context={self.context}"]  # which installs with these images, too
        command += [f"--namespace={NAMESPACE}", f"--junit-xml={LOGS / 'junit.xml'}", *arguments]
        environ = {**os.environ, "REGISTRY": self.images.registry, "TAG": self.images.tag}
        with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, env=environ) as tests:
            try:
                return tests.wait()
            except KeyboardInterrupt:
                tests.send_signal(signal.SIGINT)  # it may have come from elsewhere than the terminal
                tests.wait(60)
                raise


def pulling_pod(node: str, image: str) -> dict[str, object]:
    """A pod that does nothing but need the image on the node."""
    container = {"name": "pull", "image": image, "imagePullPolicy": "IfNotPresent", "command": ["true"]}
    spec = {"nodeName": node, "restartPolicy": "Never", "containers": [container]}
    metadata = {"name": f"{PULLING}-{node}"[:63].rstrip("-."), "labels": {"app": PULLING}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def prepare(commands: Commands, clock: Clock) -> Installation:
    """Chooses the cluster and the images; raises Stopped naming what is missing."""
    wanted, tag = os.environ.get("E2E_CONTEXT", ""), os.environ.get("TAG")
    _check_tools(["kubectl", *([] if wanted else ["kind"]), *([] if wanted and tag else ["docker"])])
    context, own = f"kind-{CLUSTER}", not wanted
    if own:
        os.environ["KUBECONFIG"] = str(WORK / "kubeconfig")  # kind writes it, kubectl and the tests read it
    else:
        context = commands.run("kubectl", "config", "current-context").strip() if wanted == "current" else wanted
        known = commands.run("kubectl", "config", "get-contexts", "--output=name").split()
        if context not in known:
            raise Stopped(f"E2E_CONTEXT={wanted}: kubectl knows no such context, only {', '.join(known) or 'none'}")
    kind = context.removeprefix("kind-") if context.startswith("kind-") else ""
    images = Images.chosen(WORK, commands, clock, passing=own and os.environ.get("E2E_KEEP") != "1")
    if images.builds and not (images.pushes or kind):
        raise Stopped(
            f"no registry answers at {images.registry} (REGISTRY), and {context} is not one of kind's clusters"
        )
    return Installation(context, kind, own, images, commands, clock)


def _check_tools(needed: list[str]) -> None:
    missing = [name for name in needed if shutil.which(name) is None]
    if missing:
        raise Stopped("\n".join(f"{name} is not installed: {TOOLS[name]}" for name in missing))
    if "docker" in needed and subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:  # noqa: S607
        raise Stopped("docker does not answer (`docker info`): does its daemon run, and may you use it?")


def run(arguments: list[str], commands: Commands, clock: Clock) -> int:
    """All of it; the exit code."""
    WORK.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(LOGS, ignore_errors=True)
    LOGS.mkdir(parents=True)
    installation = prepare(commands, clock)
    clock.say(f"cluster {installation.context}, images {installation.images.name('*')}")
    try:
        with ThreadPoolExecutor() as pool:
            cluster = pool.submit(installation.make_cluster)
            trainer = pool.submit(installation.images.provide, [TRAINER], installation.kind, cluster)
            steps = [cluster, trainer, pool.submit(installation.install, cluster)]
            try:
                done, _ = wait(steps, return_when=FIRST_EXCEPTION)
                for step in done:
                    step.result()
            except BaseException as error:
                commands.stop()
                if isinstance(error, Stopped):
                    collect(Kubectl(installation.context, NAMESPACE), LOGS)
                raise
        installation.images.remove_older()
        installation.pull_trainer()
        try:
            return installation.test(arguments)
        finally:
            installation.remove_pulling()
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # impatience must not leave a cluster behind
        commands.stopped.clear()
        if installation.own and os.environ.get("E2E_KEEP") != "1":
            installation.remove_cluster()
            clock.say("cluster removed")
        elif installation.own:
            clock.say(f"cluster kept: export KUBECONFIG={WORK / 'kubeconfig'}")


def interrupted(number: int, frame: FrameType | None) -> None:
    """SIGTERM ends it as Ctrl-C does."""
    raise KeyboardInterrupt


def main() -> int:
    """The exit code."""
    signal.signal(signal.SIGTERM, interrupted)
    signal.signal(signal.SIGINT, interrupted)
    clock = Clock()
    try:
        return run(sys.argv[1:], Commands(), clock)
    except Stopped as error:
        clock.say(f"failed: {error}")
        return 2
    except KeyboardInterrupt:
        clock.say("interrupted")
        return 130


if __name__ == "__main__":
    sys.exit(main())

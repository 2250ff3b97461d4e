"""What the operator makes of many runs created at once, beside as many bare Jobs created by the same client.

The Jobs are created suspended (the runs have Kueue's label, which needs no Kueue), so that only the operator and the
API server work. Needs the installed system (``E2E_KEEP=1 make e2e`` leaves one). What is made is deleted.

    python bench/kubernetes_burst.py [--runs 200] [--kube-context C] [--namespace aisandbox]
"""

from __future__ import annotations

import argparse
import copy
import secrets
import statistics
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from aisandbox_crds.trainingrun import GROUP, VERSION
from cluster import ENDLESS, PLURAL, Cluster, manifest_of
from kubectl import Manifest
from port_forward import PortForward
from prometheus_client.parser import text_string_to_metric_families
from sightings import Sightings, until, watching

CLIENTS = 16
QUEUE = {"kueue.x-k8s.io/queue-name": "nobody-admits"}
LABEL = "aisandbox.dev/bench"


def metrics(address: str) -> dict[str, float]:
    """The operator's, each summed over its labels."""
    totals: dict[str, float] = {}
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as response:
        for family in text_string_to_metric_families(response.read().decode()):
            for sample in family.samples:
                totals[sample.name] = totals.get(sample.name, 0.0) + sample.value
    return totals


def create_all(names: list[str], create: Callable[[str], object]) -> dict[str, float]:
    """Creates all at once; when each creation was answered."""
    answered: dict[str, float] = {}

    def one(name: str) -> None:
        create(name)
        answered[name] = time.time()

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(one, names))
    return answered


def bare_job(job: Manifest, name: str) -> Manifest:
    """The same pod template and no owner."""
    spec = copy.deepcopy(job["spec"])
    for made_by_the_api_server in ("selector", "manualSelector"):
        spec.pop(made_by_the_api_server, None)
    labels = spec["template"]["metadata"]["labels"]
    spec["template"]["metadata"]["labels"] = {
        k: v for k, v in labels.items() if "job-name" not in k and "controller-uid" not in k
    }
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "labels": {LABEL: "yes"}}, "spec": spec}


@contextmanager
def cleaned_up(cluster: Cluster, names: list[str]) -> Iterator[None]:
    """Deletes the runs and the bare Jobs, and waits until their Jobs are gone."""
    try:
        yield
    finally:
        cluster.kubectl("delete", "trainingruns", "--ignore-not-found", "--wait=false", *names, seconds=300)
        cluster.kubectl("delete", "jobs", "-l", LABEL, "--wait=false", seconds=300)
        mine = set(names)
        until(lambda: not mine & {job["metadata"]["name"] for job in cluster.jobs()}, "the end of all Jobs")


def measure(cluster: Cluster, operator: str, count: int) -> dict[str, float]:
    """The rows of the table."""
    prefix, seen = f"bench-{secrets.token_hex(2)}", Sightings()
    names = [f"{prefix}-{index:03}" for index in range(count)]
    api, space = cluster.custom.create_namespaced_custom_object, cluster.namespace
    before = metrics(operator)
    with cleaned_up(cluster, names), watching(cluster, space, seen):
        began = time.time()
        created = create_all(
            names, lambda name: api(GROUP, VERSION, space, PLURAL, manifest_of(name, **ENDLESS, labels=QUEUE))
        )
        jobs = {name: seen.wait("job", name) for name in names}
        until(lambda: all_have_status(cluster, prefix, count), "the status of every run")
        written = time.time()
        after = settled(operator)
        twice = sum(seen.counts["job", name] != 1 for name in names)
        template = cluster.job(names[0])
        assert template is not None
        plain = {f"{name}-bare": bare_job(template, f"{name}-bare") for name in names}
        bare_began = time.time()
        create_all(list(plain), lambda name: api("batch", "v1", space, "jobs", plain[name]))
        bare = max(seen.wait("job", name) for name in plain) - bare_began
    waits = sorted(jobs[name] - created[name] for name in names)
    return {
        "s until all runs are created": max(created.values()) - began,
        "s until all Jobs are created": max(jobs.values()) - began,
        "s until all phases are written": written - began,
        "s for as many bare Jobs": bare,
        "ratio of Jobs to bare Jobs": (max(jobs.values()) - began) / bare,
        "s from a run to its Job, median": statistics.median(waits),
        "s from a run to its Job, p95": waits[int(0.95 * (count - 1))],
        "runs with more than one Job": twice,
        **costs(before, after, count),
    }


def costs(before: Mapping[str, float], after: Mapping[str, float], count: int) -> dict[str, float]:
    """What it took of the operator."""
    spent = {name: value - before.get(name, 0.0) for name, value in after.items()}
    calls = {name: value for name, value in spent.items() if "api" in name and name.endswith(("_total", "_count"))}
    return {
        "MiB of the operator before": before["process_resident_memory_bytes"] / 2**20,
        "MiB of the operator after": after["process_resident_memory_bytes"] / 2**20,
        "ms of the operator's CPU a run": spent["process_cpu_seconds_total"] / count * 1000,
        **{f"{name} a run": value / count for name, value in calls.items()},
    }


def all_have_status(cluster: Cluster, prefix: str, count: int) -> bool:
    """Whether every run has a phase."""
    mine = [run for run in cluster.runs() if run["metadata"]["name"].startswith(prefix)]
    return len(mine) == count and all("phase" in run.get("status", {}) for run in mine)


def settled(operator: str) -> dict[str, float]:
    """The metrics once the operator's CPU rests: two looks a second apart are nearly the same."""
    now = metrics(operator)
    while True:
        time.sleep(1)
        last, now = now, metrics(operator)
        if now["process_cpu_seconds_total"] - last["process_cpu_seconds_total"] < 0.05:
            return now


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--kube-context", default="")
    parser.add_argument("--namespace", default="aisandbox")
    arguments = parser.parse_args()
    cluster = Cluster(arguments.kube_context, arguments.namespace)
    with PortForward(cluster.kubectl, "service/aisandbox-operator", 9090) as forward:
        rows = measure(cluster, forward.address, arguments.runs)
    print(f"{arguments.runs} runs created at once by {CLIENTS} clients, their Jobs born suspended")
    for name, value in rows.items():
        print(f"{name:56}{value:10.2f}")


if __name__ == "__main__":
    main()

"""The images of an installed system, for another installation of the same."""

from __future__ import annotations

from collections.abc import Iterable

from cluster import Cluster


def replacements(cluster: Cluster, deployments: Iterable[str]) -> list[dict[str, str]]:
    """The ``images`` of a kustomization of deploy/overlays/kind: those of these Deployments, and the trainer's."""
    found = [cluster.trainer_image()]
    for name in deployments:
        template = cluster.kubectl.json("get", "deployment", name)["spec"]["template"]
        found.append(template["spec"]["containers"][0]["image"])
    return [_replacement(image) for image in found]


def _replacement(image: str) -> dict[str, str]:
    name, _, tag = image.rpartition(":")
    return {"name": f"localhost:5001/aisandbox/{name.rpartition('/')[2]}", "newName": name, "newTag": tag}

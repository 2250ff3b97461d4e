"""Pod Security's profile "restricted", for machines without a cluster.

The rules: kubernetes.io/docs/concepts/security/pod-security-standards. Stricter where they allow a choice: what is said
for the pod is not said otherwise for a container.
"""

from __future__ import annotations

from manifests import Manifest

VOLUMES = ("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret")


def violations(pod: Manifest, container: Manifest) -> list[str]:
    """The fields in which a pod with this container does not keep the profile."""
    own, shared = container.get("securityContext", {}), pod.get("securityContext", {})
    kept = {
        "hostNetwork": not pod.get("hostNetwork"),
        "hostPID": not pod.get("hostPID"),
        "hostIPC": not pod.get("hostIPC"),
        "hostPort": not any("hostPort" in port for port in container.get("ports", [])),
        "volumes": not any(volume.keys() - {"name", *VOLUMES} for volume in pod.get("volumes", [])),
        "runAsNonRoot": shared.get("runAsNonRoot") is True and "runAsNonRoot" not in own,
        "runAsUser": shared.get("runAsUser", 0) != 0 and "runAsUser" not in own,
        "seccompProfile": shared.get("seccompProfile") == {"type": "RuntimeDefault"} and "seccompProfile" not in own,
        "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is False,
        "privileged": not own.get("privileged"),
        "capabilities": own.get("capabilities") == {"drop": ["ALL"]},
        "sysctls": not shared.get("sysctls"),
        "procMount": own.get("procMount", "Default") == "Default",
    }
    return [name for name, good in kept.items() if not good]

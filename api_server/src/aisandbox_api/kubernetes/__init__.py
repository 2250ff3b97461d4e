"""The Kubernetes backend: a run is a TrainingRun resource, which the operator has trained by a Job."""

from aisandbox_api.kubernetes.backend import KubernetesBackend

__all__ = ["KubernetesBackend"]

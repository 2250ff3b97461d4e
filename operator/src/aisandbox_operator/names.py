"""The names the operator gives and goes by in the cluster."""

from __future__ import annotations

from aisandbox_crds.trainingrun import GROUP

FIELD_MANAGER = "aisandbox-operator"
"""Of its Jobs and of its part of a run's status."""

CONTAINER = "trainer"
FAILURES_BEFORE_ANNOTATION = f"{GROUP}/failures-before"
"""On a Job: the failures that earlier Jobs of the run have spent; written once, when the Job is made."""

QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
"""With this label of a run's Job, Kueue decides when it may run (kueue.sigs.k8s.io, "Run A Kubernetes Job")."""

"""The syntax of Kubernetes' labels and names, as the patterns of fields, and the labels that are not the user's.

Must not know which fields have them.

Source: kubernetes.io, "Labels and Selectors", "Object Names and IDs".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from aisandbox_crds.errors import FieldError, short_repr
from aisandbox_crds.field_rules import CelRule, Pattern

LABEL_NAME = "[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
LABEL_KEY = f"([a-z0-9]([-a-z0-9.]{{0,251}}[a-z0-9])?/)?{LABEL_NAME}"
_DNS_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"

LABEL_KEYS = Pattern(
    LABEL_KEY,
    "must have keys that are Kubernetes label keys: an optional DNS prefix and '/', then at most 63 letters, digits, "
    "'-', '_' and '.', with a letter or digit at each end",
)
LABEL_VALUES = Pattern(
    f"({LABEL_NAME})?",
    "must have values that are Kubernetes label values: at most 63 letters, digits, '-', '_' and '.', with a letter or "
    "digit at each end",
)
ANNOTATION_KEYS = Pattern(LABEL_KEYS.expression, LABEL_KEYS.message.replace("label keys", "annotation keys"))

RESERVED_PREFIXES = ("aisandbox.dev/", "app.kubernetes.io/", "batch.kubernetes.io/")
RESERVED_LABELS = ("controller-uid", "job-name")
"""Labels of the Job and its pods that the operator or Kubernetes sets."""
RESERVED_LABEL_RULES = (
    CelRule(
        "!self.exists(k, k.startsWith('aisandbox.dev/') || k.startsWith('app.kubernetes.io/'))",
        "must have no key that begins with aisandbox.dev/ or app.kubernetes.io/, which are the operator's",
    ),
    CelRule(
        "!self.exists(k, k.startsWith('batch.kubernetes.io/') || k in ['controller-uid', 'job-name'])",
        "must have no key that the Job sets: batch.kubernetes.io/..., controller-uid and job-name",
    ),
)
"""The same as rules of a field."""


def object_name(kind: str) -> Pattern:
    """The name of a Kubernetes object, or nothing."""
    return Pattern(
        f"({_DNS_LABEL}([.]{_DNS_LABEL})*)?",
        f"must be the name of a {kind}, in lower case letters, digits, '-' and '.'",
    )


def reserved_label_errors(field: str, keys: Iterable[str]) -> Iterator[FieldError]:
    """The keys that are not the user's."""
    for key in keys:
        if key.startswith(RESERVED_PREFIXES) or key in RESERVED_LABELS:
            yield FieldError(field, f"must not have the key {short_repr(key)}, which the operator or the Job sets")

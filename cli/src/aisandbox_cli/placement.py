"""The options of ``aisandbox train`` about the trainer's machine on Kubernetes, and the message that they become.

Owns their names, help and notation, which is kubectl's where it has one. Must not know what a start does with them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from aisandbox.v1 import policy_trainer_pb2 as pb

from aisandbox_cli import options
from aisandbox_cli.errors import UsageError

PANEL = "On Kubernetes"
_TOLERATION = re.compile(r"(?P<key>[^=:]*)(=(?P<value>[^:]*))?(:(?P<effect>.*))?")

Requests = Annotated[
    str,
    typer.Option(
        metavar="NAME=QUANTITY,...", rich_help_panel=PANEL, help="What is reserved for the trainer: cpu=2,memory=4Gi."
    ),
]
Limits = Annotated[
    str,
    typer.Option(
        metavar="NAME=QUANTITY,...",
        rich_help_panel=PANEL,
        help="What the trainer may use at most: memory=4Gi,nvidia.com/gpu=1.",
    ),
]
Queue = Annotated[
    str, typer.Option(metavar="NAME", rich_help_panel=PANEL, help="The queue of Kueue that the run waits in.")
]
PriorityClass = Annotated[
    str, typer.Option(metavar="NAME", rich_help_panel=PANEL, help="The PriorityClass of the trainer's pod.")
]
Label = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", rich_help_panel=PANEL, help="A label of the Job and its pod; repeatable."),
]
NodeSelector = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", rich_help_panel=PANEL, help="A label that a node must have; repeatable."),
]
Toleration = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY[=VALUE][:EFFECT]",
        rich_help_panel=PANEL,
        help="A taint of nodes that the trainer tolerates; repeatable.",
    ),
]
PodTemplate = Annotated[
    str,
    typer.Option(
        metavar="JSON|@FILE",
        rich_help_panel=PANEL,
        help="spec.podTemplate of a TrainingRun: annotations, image, volumes, affinity and so on.",
    ),
]


def placement(
    requests: str,
    limits: str,
    queue: str,
    priority_class: str,
    labels: Sequence[str] | None,
    node_selector: Sequence[str] | None,
    tolerations: Sequence[str] | None,
    pod_template: str,
) -> pb.Placement | None:
    """The placement of the request; None if no option says anything. Raises UsageError."""
    found = pb.Placement(
        requests=options.pairs(_listed(requests), "--requests"),
        limits=options.pairs(_listed(limits), "--limits"),
        queue=queue,
        priority_class_name=priority_class,
        labels=options.pairs(labels or (), "--label"),
        node_selector=options.pairs(node_selector or (), "--node-selector"),
        tolerations=[_toleration(text) for text in tolerations or ()],
    )
    if pod_template:
        found.pod_template.update(_template(pod_template))
    return found if found.ByteSize() else None


def _listed(text: str) -> list[str]:
    return [part for part in text.split(",") if part.strip()]


def _toleration(text: str) -> pb.Toleration:
    match = _TOLERATION.fullmatch(text.strip())
    if match is None or not match["key"]:
        raise UsageError(f"--toleration {text!r}: must be KEY, KEY:EFFECT, KEY=VALUE or KEY=VALUE:EFFECT")
    value, effect = match["value"], match["effect"] or ""
    if value is None:
        return pb.Toleration(key=match["key"], operator="Exists", effect=effect)
    return pb.Toleration(key=match["key"], operator="Equal", value=value, effect=effect)


def _template(text: str) -> dict[str, Any]:
    source = text
    if text.startswith("@"):
        try:
            source = Path(text[1:]).read_text(encoding="utf-8")
        except (OSError, UnicodeError) as error:
            raise UsageError(f"--pod-template {text}: cannot be read: {error}") from error
    try:
        data = json.loads(source)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"--pod-template: is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise UsageError('--pod-template: must be a JSON object, as {"metadata": {"annotations": {"team": "games"}}}')
    return data

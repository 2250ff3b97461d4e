"""What a policy learns from before its first step, as a spec says it: a frozen value, and the table of its fields.

Must not know what is in the file.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from aisandbox_crds.field_rules import DIGEST_IF_ANY, CelRule, about
from aisandbox_crds.volume_path import MAX_PATH_LENGTH, VOLUME_PATH_RULES


@dataclass(frozen=True, slots=True)
class DemonstrationSettings:
    """Recorded episodes that the policy learns to act like before its first step in the environment."""

    file: str = field(
        metadata=about(
            "The file that aisandbox record has written, relative to the volume of models, for "
            "example team/heuristic.parquet.",
            min_length=1,
            max_length=MAX_PATH_LENGTH,
            cel=VOLUME_PATH_RULES,
        )
    )
    epochs: int = field(
        default=10,
        metadata=about(
            "How many times the policy goes through all recorded steps.",
            minimum=1,
            maximum=10_000,
            bits=32,
        ),
    )
    batch_size: int = field(
        default=64,
        metadata=about(
            "Recorded steps of a minibatch.",
            minimum=1,
            maximum=1_000_000,
            bits=32,
        ),
    )
    learning_rate: float | None = field(
        default=None,
        metadata=about(
            "The learning rate of cloning; that of the algorithm is for the run after it. Without it, 0.001.",
            cel=(CelRule("self > 0.0 && self <= 1.0", "must be more than 0 and at most 1"),),
        ),
    )
    digest: str = field(
        default="",
        metadata=about(
            "The digest that the file must have, as sha256:...; a start over gRPC fills it in, of a file of up to "
            "256 MiB. Without it, the one found when the first attempt begins.",
            max_length=71,
            pattern=DIGEST_IF_ANY,
        ),
    )

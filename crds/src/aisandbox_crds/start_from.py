"""What a run starts from, as a spec says it: frozen values, and the tables of their fields.

Must not know where models and checkpoints are kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from aisandbox_crds.field_rules import DIGEST_IF_ANY, Pattern, about
from aisandbox_crds.volume_path import MAX_PATH_LENGTH, VOLUME_PATH_RULES


class TakenPart(StrEnum):
    """What a run can take over beside the weights, as ``startFrom.take`` spells it."""

    NORMALIZATION = "normalization"
    OPTIMIZER = "optimizer"
    REPLAY_BUFFER = "replayBuffer"


@dataclass(frozen=True, slots=True)
class StartFrom:
    """What a run starts from, instead of random weights: exactly one of run and zip."""

    run: str = field(
        default="",
        metadata=about(
            "The run whose weights it starts from, by its name. It is in the same namespace and has the same "
            "algorithm; the spaces and the networks are the same too.",
            max_length=52,
            pattern=Pattern(
                "([a-z0-9]([-a-z0-9]{0,50}[a-z0-9])?)?",
                "must be the name of a run: at most 52 lower-case letters, digits and '-'",
            ),
        ),
    )
    model: str = field(
        default="",
        metadata=about(
            "Which of its models: latest, best, final, step:N or sha256:DIGEST. Without it and without checkpoint, "
            "final if there is one, else latest.",
            max_length=71,
            pattern=Pattern(
                "(latest|best|final|step:[0-9]{1,18}|sha256:[0-9a-f]{64})?",
                "must be latest, best, final, step:N or sha256: and 64 hexadecimal digits",
            ),
        ),
    )
    checkpoint: str = field(
        default="",
        metadata=about(
            "One of its checkpoints instead of a model: latest, step:N or sha256:DIGEST. Only a checkpoint has an "
            "optimizer and a replay buffer.",
            max_length=71,
            pattern=Pattern(
                "(latest|step:[0-9]{1,18}|sha256:[0-9a-f]{64})?",
                "must be latest, step:N or sha256: and 64 hexadecimal digits",
            ),
        ),
    )
    zip: str = field(
        default="",
        metadata=about(
            "Instead of a run, a zip file that stable-baselines3 has saved, relative to the volume of models, for "
            "example team/my_model.zip. What is pickled in it is not read.",
            max_length=MAX_PATH_LENGTH,
            cel=VOLUME_PATH_RULES,
        ),
    )
    take: tuple[TakenPart, ...] = field(
        default=(),
        metadata=about(
            "What to load besides the weights (and the entropy coefficient): normalization (the statistics of "
            "VecNormalize), optimizer, replayBuffer. Without it, nothing.",
            max_entries=3,
            schema={"x-kubernetes-list-type": "set"},
        ),
    )
    digest: str = field(
        default="",
        metadata=about(
            "The digest that the model, the checkpoint or the zip file must have, as sha256:...; a start over gRPC "
            "fills it in, except of a zip file of more than 256 MiB. Without it, the one found when the first attempt "
            "begins.",
            max_length=71,
            pattern=DIGEST_IF_ANY,
        ),
    )

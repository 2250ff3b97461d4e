"""Which of a run's attempts have had a key to sign their checkpoints with: an annotation of the run's record.

An attempt without a key (of a version without keys, or where no secret could be written) leaves checkpoints without a
digest, which the run must read afterwards. Must not know who starts trainers.
"""

from __future__ import annotations

from dataclasses import replace

from aisandbox_crds import GROUP, TrainingRun

ATTEMPTS_ANNOTATION = f"{GROUP}/attempts-with-a-key"
"""The number of the run's first attempts that all had a key; versions without keys leave it as it is."""


def with_key(run: TrainingRun) -> TrainingRun:
    """The run whose present attempt gets a key: noted, unless an attempt before it had none."""
    if may_have_unsigned(run):
        return run
    return replace(run, annotations={**run.annotations, ATTEMPTS_ANNOTATION: str(run.status.attempt)})


def may_have_unsigned(run: TrainingRun) -> bool:
    """Whether an attempt before the present one has had no key."""
    text = run.annotations.get(ATTEMPTS_ANNOTATION, "")
    noted = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
    return noted < run.status.attempt - 1

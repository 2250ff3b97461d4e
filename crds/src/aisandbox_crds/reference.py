"""The reference of hyperparameters for people, as Markdown, made of the tables.

``python -m aisandbox_crds.reference docs/hyperparameters.md`` writes it; without an argument it is printed. A test
holds the written one against the tables.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from aisandbox_crds.hyperparameter_table import NORMALIZE_KEYWORDS, PARAMETERS, REFUSED, ZOO_PARAMETERS, Parameter
from aisandbox_crds.kinds import Optional
from aisandbox_crds.policy_kwargs import EXTRACTORS, OPTIMIZERS, POLICY_KEYWORDS, REFUSED_POLICY_KEYWORDS
from aisandbox_crds.spec import Algorithm
from aisandbox_crds.values import Normalize

INTRODUCTION = """\
<!-- Made by `python -m aisandbox_crds.reference docs/hyperparameters.md`; do not edit. -->

# Hyperparameters

A start call takes hyperparameters as a map of text to text; what is not said keeps its default. They are the keywords
of the algorithm's class in [stable-baselines3](https://stable-baselines3.readthedocs.io), and a few more that
[RL Zoo](https://github.com/DLR-RM/rl-baselines3-zoo) knows. Values are written as in RL Zoo's files, so that theirs can
be copied:

| to say | write | not |
|---|---|---|
| a number | `256`, `0.98`, `3e-4`; `1e6` where a whole number is meant | `nan`, `inf`, `1_000`, `True` |
| a truth value, nothing | `True`, `false`, `None` | `1`, `yes` |
| a number that falls linearly to 0 over the run | `lin_3e-4` | `lambda p: p * 3e-4` |
| a list, a pair, a dict | `[256, 256]`, `(4, 'step')`, `{'norm_obs': True}`, `dict(norm_obs=True)` | `[64] * 2` |
| a class | `nn.ReLU`, `th.optim.AdamW`, `NatureCNN` (the known ones, below) | `my_package.MyNet` |

Text is parsed, never evaluated. An unknown key, a value out of range, or two that contradict each other is refused at
the start call, as INVALID_ARGUMENT that names the key and what is allowed:

    hyperparameters.learnin_rate: unknown for PPO; did you mean learning_rate? Known: batch_size, clip_range, ...
    hyperparameters.gamma: must be a number of at least 0 and at most 1, got 1.5

For example, RL Zoo's PPO for MountainCarContinuous-v0:

    normalize      True
    n_steps        8
    batch_size     256
    gamma          0.9999
    learning_rate  7.77e-05
    use_sde        True
    policy_kwargs  dict(log_std_init=-3.29, ortho_init=False)
"""

_NORMALIZE = """\
`normalize` is `True`, `False`, or a dict with any of these. `gamma` is the algorithm's unless said. The statistics are
saved with every checkpoint and are inside every published model.
"""

_POLICY = """\
A dict with any of these. DQN takes those marked so, and its `net_arch` is one list.
"""

_OPTIONS = """\
`optimizer_kwargs` and `features_extractor_kwargs` are dicts with any keyword of the class in use. Without
`optimizer_class` that is Adam; A2C uses its own RMSprop unless `use_rms_prop` is False or an `optimizer_class` is
given. Without `features_extractor_class` it is FlattenExtractor for MlpPolicy, NatureCNN for CnnPolicy,
CombinedExtractor for MultiInputPolicy.
"""


def reference() -> str:
    """The whole document."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield INTRODUCTION
    for algorithm in Algorithm:
        yield f"## {algorithm}\n"
        yield from _parameters(PARAMETERS[algorithm])
    yield "## Around the algorithm\n"
    yield "For all three.\n"
    yield from _parameters(ZOO_PARAMETERS)
    yield "## normalize\n"
    yield _NORMALIZE
    defaults = Normalize()
    rows = ((_code(name), str(kind), _code(getattr(defaults, name))) for name, kind in NORMALIZE_KEYWORDS.kinds.items())
    yield from _table(("key", "takes", "default"), rows)
    yield "## policy_kwargs\n"
    yield _POLICY
    dqn = POLICY_KEYWORDS[Algorithm.DQN]
    policy = POLICY_KEYWORDS[Algorithm.PPO].items()
    yield from _table(("key", "takes", "DQN"), ((_code(k), str(kind), "yes" if k in dqn else "") for k, kind in policy))
    yield _OPTIONS
    classes = [*OPTIMIZERS.items(), *EXTRACTORS.items()]
    yield from _table(
        ("class", "keywords"),
        (
            (_code(name), "; ".join(f"`{key}`: {kind}" for key, kind in kinds.items()) or "none")
            for name, kinds in classes
        ),
    )
    yield "## What is not a hyperparameter\n"
    refused = [*REFUSED.items(), *((f"policy_kwargs.{key}", why) for key, why in REFUSED_POLICY_KEYWORDS.items())]
    yield from _table(("key", "because it"), ((_code(key), why) for key, why in refused))


def _parameters(parameters: Iterable[Parameter]) -> Iterator[str]:
    ordered = sorted(parameters, key=lambda parameter: not parameter.ours)
    rows = ((_code(p.name), str(p.kind), _default(p), p.meaning) for p in ordered)
    yield from _table(("key", "takes", "default", "is"), rows)


def _default(parameter: Parameter) -> str:
    said = parameter.default is not None or isinstance(parameter.kind, Optional)
    return _code(parameter.default) if said else ""


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(header)} |"
    yield f"|{'---|' * len(header)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def _code(value: object) -> str:
    return f"`{value}`"


def main(arguments: list[str]) -> None:
    """Writes the document to the path given, or prints it."""
    if arguments:
        Path(arguments[0]).write_text(reference(), encoding="utf-8", newline="\n")
    else:
        sys.stdout.write(reference())


if __name__ == "__main__":
    main(sys.argv[1:])

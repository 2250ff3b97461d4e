"""What ``policy_kwargs`` may say: the keywords of SB3's policies and the classes that may be named there.

The names are those of RL Zoo's files: ``nn.ReLU``, ``th.optim.Adam``, ``NatureCNN``. Must not import what they name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aisandbox_crds.errors import InvalidParameter, short_repr
from aisandbox_crds.parameter_types import BoolType, DictType, FloatType, IntType, ListType, ParameterType, value_text
from aisandbox_crds.parameter_values import ClassName, Value

ACTIVATIONS = tuple(
    f"nn.{name}"
    for name in ("ReLU", "Tanh", "ELU", "LeakyReLU", "GELU", "SiLU", "SELU", "CELU", "Mish", "Softplus", "Sigmoid")
)
"""Modules of ``torch.nn`` that need no argument."""

_EPS, _DECAY, _UNIT = FloatType(0, 1, above=True), FloatType(0, 1), FloatType(0, 1, below=True)
_BETAS = ListType(_UNIT, 2, 2)
_ADAM: Mapping[str, ParameterType] = {
    "betas": _BETAS, "eps": _EPS, "weight_decay": _DECAY,
    "amsgrad": BoolType(), "foreach": BoolType(), "fused": BoolType(),
}  # fmt: skip
_ADAM_VARIANT: Mapping[str, ParameterType] = {
    "betas": _BETAS,
    "eps": _EPS,
    "weight_decay": _DECAY,
    "foreach": BoolType(),
}
_RMSPROP: Mapping[str, ParameterType] = {
    "alpha": FloatType(0, 1), "eps": _EPS, "weight_decay": _DECAY, "momentum": _UNIT, "centered": BoolType(),
}  # fmt: skip
OPTIMIZERS: Mapping[str, Mapping[str, ParameterType]] = {
    "th.optim.Adam": _ADAM,
    "th.optim.AdamW": _ADAM,
    "th.optim.NAdam": _ADAM_VARIANT,
    "th.optim.RAdam": _ADAM_VARIANT,
    "th.optim.Adamax": _ADAM_VARIANT,
    "th.optim.RMSprop": _RMSPROP,
    "th.optim.SGD": {"momentum": _UNIT, "weight_decay": _DECAY},
    "RMSpropTFLike": _RMSPROP,
}
"""The optimizers and the keywords of each."""

_FEATURES = IntType(1, 8192)
EXTRACTORS: Mapping[str, Mapping[str, ParameterType]] = {
    "FlattenExtractor": {},
    "NatureCNN": {"features_dim": _FEATURES, "normalized_image": BoolType()},
    "CombinedExtractor": {"cnn_output_dim": _FEATURES, "normalized_image": BoolType()},
}
"""The feature extractors and the keywords of each."""

OBSERVED_VECTORS, OBSERVED_IMAGES, OBSERVED_DICT = "vectors", "images", "a Dict"
"""What a policy observes."""
POLICIES: Mapping[str, str] = {
    OBSERVED_VECTORS: "MlpPolicy",
    OBSERVED_IMAGES: "CnnPolicy",
    OBSERVED_DICT: "MultiInputPolicy",
}
"""SB3's policies, by what they observe, with the names that algorithms but RecurrentPPO have for them."""
RECURRENT_POLICIES: Mapping[str, str] = {
    OBSERVED_VECTORS: "MlpLstmPolicy",
    OBSERVED_IMAGES: "CnnLstmPolicy",
    OBSERVED_DICT: "MultiInputLstmPolicy",
}
"""The same of sb3-contrib, with an LSTM behind the features."""

_EXTRACTOR_FOR = {
    OBSERVED_VECTORS: "FlattenExtractor",
    OBSERVED_IMAGES: "NatureCNN",
    OBSERVED_DICT: "CombinedExtractor",
}
_EXTRACTOR_OF_POLICY = {
    policy: _EXTRACTOR_FOR[observed]
    for policies in (POLICIES, RECURRENT_POLICIES)
    for observed, policy in policies.items()
}

_PREFIXES = {"torch.": "th.", "th.nn.": "nn.", "optim.": "th.optim."}


@dataclass(frozen=True, slots=True)
class ClassNameType:
    """One of the known names."""

    names: tuple[str, ...]

    def __str__(self) -> str:
        return f"one of {', '.join(self.names)}"

    def check(self, value: Value) -> ClassName:
        """As :meth:`ParameterType.check`; ``torch.optim.Adam`` and ``optim.Adam`` are ``th.optim.Adam``."""
        name = value.name if isinstance(value, ClassName) else ""
        for prefix, short in _PREFIXES.items():
            if name.startswith(prefix):
                name = short + name.removeprefix(prefix)
        if name not in self.names:
            raise InvalidParameter(f"must be {self}, got {value_text(value)}")
        return ClassName(name)


@dataclass(frozen=True, slots=True)
class NetArchType:
    """Layer widths: a list, or for actor-critics one list each for the ``parts`` policy and value network.

    ``needs_all``: SB3 has no default for a part that a dict leaves out.
    """

    parts: tuple[str, ...] = ()
    needs_all: bool = False
    layers: ListType = field(default_factory=lambda: ListType(IntType(1, 8192), 0, 16))

    def __str__(self) -> str:
        split = f", or dict({', '.join(f'{part}=[...]' for part in self.parts)})" if self.parts else ""
        split += f" with both {' and '.join(self.parts)}" if self.needs_all else ""
        return f"a list of at most 16 layer widths from 1 to 8,192, such as [64, 64]{split}"

    def check(self, value: Value) -> list[int] | dict[str, list[int]]:
        """As :meth:`ParameterType.check`; the older form ``[dict(pi=..., vf=...)]`` is taken too."""
        if isinstance(value, list) and len(value) == 1 and isinstance(value[0], Mapping):
            value = value[0]
        try:
            if isinstance(value, Mapping) and self._names_parts(value):
                return {key: list(self.layers.check(widths)) for key, widths in value.items()}
            return list(self.layers.check(value))
        except InvalidParameter:
            raise InvalidParameter(f"must be {self}, got {short_repr(value)}") from None

    def _names_parts(self, value: Mapping[str, Value]) -> bool:
        given = value.keys()
        return bool(self.parts) and (given == set(self.parts) if self.needs_all else given <= set(self.parts))


_ANY_DICT = DictType(
    {key: type_ for keywords in (*OPTIMIZERS.values(), *EXTRACTORS.values()) for key, type_ in keywords.items()},
    refused={"lr": "is the hyperparameter learning_rate"},
)
_COMMON_KEYWORDS: Mapping[str, ParameterType] = {
    "activation_fn": ClassNameType(ACTIVATIONS),
    "features_extractor_class": ClassNameType(tuple(EXTRACTORS)),
    "normalize_images": BoolType(),
    "optimizer_class": ClassNameType(tuple(OPTIMIZERS)),
}
ACTOR_CRITIC_KEYWORDS: Mapping[str, ParameterType] = {
    "net_arch": NetArchType(("pi", "vf")),
    **_COMMON_KEYWORDS,
    "ortho_init": BoolType(),
    "log_std_init": FloatType(-20, 2),
    "full_std": BoolType(),
    "use_expln": BoolType(),
    "squash_output": BoolType(),
    "share_features_extractor": BoolType(),
}
"""Of an on-policy algorithm's policy."""
DISCRETE_ACTOR_CRITIC_KEYWORDS: Mapping[str, ParameterType] = {
    name: type_
    for name, type_ in ACTOR_CRITIC_KEYWORDS.items()
    if name not in ("log_std_init", "full_std", "use_expln", "squash_output")
}
"""The same, where actions are no Box."""
RECURRENT_KEYWORDS: Mapping[str, ParameterType] = {
    "lstm_hidden_size": IntType(1, 8192),
    "n_lstm_layers": IntType(1, 16),
    "shared_lstm": BoolType(),
    "enable_critic_lstm": BoolType(),
    "lstm_kwargs": DictType({"bias": BoolType(), "dropout": FloatType(0, 1, below=True)}, refused={}),
}
"""In addition, of a recurrent policy."""
Q_KEYWORDS: Mapping[str, ParameterType] = {"net_arch": NetArchType(), **_COMMON_KEYWORDS}
"""Of the policy of an algorithm that learns values of discrete actions."""
Q_ACTOR_KEYWORDS: Mapping[str, ParameterType] = {
    "net_arch": NetArchType(("pi", "qf"), needs_all=True),
    **_COMMON_KEYWORDS,
    "n_critics": IntType(1, 100),
    "share_features_extractor": BoolType(),
}
"""Of an off-policy actor-critic's policy."""
GAUSSIAN_ACTOR_KEYWORDS: Mapping[str, ParameterType] = {
    **Q_ACTOR_KEYWORDS,
    "log_std_init": FloatType(-20, 2),
    "use_expln": BoolType(),
    "clip_mean": FloatType(0),
}
"""The same, where the policy is a distribution."""
QUANTILES = "n_quantiles"
QUANTILE_KEYWORDS: Mapping[str, ParameterType] = {QUANTILES: IntType(1, 10_000)}
"""In addition, where the distribution of returns is learned."""
BATCH_NORM = "batch_norm"
BATCH_NORM_KEYWORDS: Mapping[str, ParameterType] = {
    BATCH_NORM: BoolType(),
    "batch_norm_momentum": FloatType(0, 1, above=True),
    "batch_norm_eps": FloatType(0, 1, above=True),
    "renorm_warmup_steps": IntType(0, 10**12),
}
"""In addition, where the networks have layers that normalise batches."""

DEPENDENT_KEYWORDS = ("optimizer_kwargs", "features_extractor_kwargs")
"""Dicts whose keys depend on the class chosen beside them."""

REFUSED_POLICY_KEYWORDS = {
    "use_sde": "is a hyperparameter of its own: use_sde",
    "observation_space": "is the environment's",
    "action_space": "is the environment's",
    "lr_schedule": "is the hyperparameter learning_rate",
}


@dataclass(frozen=True, slots=True)
class PolicyKwargsType:
    """The dict ``policy_kwargs`` of an algorithm whose policy has ``keywords``, beside the DEPENDENT_KEYWORDS.

    Which classes it concerns is known from the other hyperparameters.
    """

    keywords: Mapping[str, ParameterType]

    def __str__(self) -> str:
        return f"a dict with any of {', '.join((*self.keywords, *DEPENDENT_KEYWORDS))}"

    def check(self, value: Value) -> dict[str, Any]:
        """As :meth:`ParameterType.check`, as far as it can be told without the policy; then :func:`check_dependent`."""
        types = {**self.keywords, **dict.fromkeys(DEPENDENT_KEYWORDS, _ANY_DICT)}
        return DictType(types, REFUSED_POLICY_KEYWORDS).check(value)


def check_dependent(kwargs: Mapping[str, Any], policy: str | None, rms_prop: bool) -> None:
    """Checks the dicts that depend on the policy (None: not known yet) and on A2C's use_rms_prop.

    Raises InvalidParameter.
    """
    optimizer = kwargs.get("optimizer_class")
    options = kwargs.get("optimizer_kwargs", {})
    if rms_prop and optimizer is None and options:
        raise InvalidParameter(
            "would be replaced by A2C's own, since use_rms_prop is True: set rms_prop_eps, or use_rms_prop to "
            "False, or an optimizer_class beside it",
            ".optimizer_kwargs",
        )
    _check_options(".optimizer_kwargs", optimizer or ClassName("th.optim.Adam"), OPTIMIZERS, options)
    if options.get("fused") and options.get("foreach"):
        raise InvalidParameter("fused and foreach cannot both be True", ".optimizer_kwargs")
    extractor = kwargs.get("features_extractor_class")
    if extractor is None and policy is not None:
        extractor = ClassName(_EXTRACTOR_OF_POLICY[policy])
    options = kwargs.get("features_extractor_kwargs", {})
    if extractor is None and options and not any(options.keys() <= known.keys() for known in EXTRACTORS.values()):
        raise InvalidParameter(f"has keys of no one class: {', '.join(options)}", ".features_extractor_kwargs")
    if extractor is not None:
        _check_options(".features_extractor_kwargs", extractor, EXTRACTORS, options)


def _check_options(
    path: str, chosen: ClassName, known: Mapping[str, Mapping[str, ParameterType]], given: Mapping[str, Any]
) -> None:
    for key in given:
        if key not in known[chosen.name]:
            raise InvalidParameter(
                f"unknown for {chosen}; known: {', '.join(known[chosen.name]) or 'none'}", f"{path}.{key}"
            )

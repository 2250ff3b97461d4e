"""What a policy acts in, as a spec says it: frozen values, and the tables of their fields.

Must not know how a trainer connects to a simulator.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aisandbox_crds.field_rules import CelRule, Pattern, about

MAX_ENVIRONMENTS = 4096
MAX_ADDRESS_LENGTH = 8192

GRPC_SCHEMES = (
    *("dns", "fake", "google-c2p", "google-c2p-experimental", "ipv4", "ipv6", "passthrough", "sockaddr"),
    *("unix", "unix-abstract", "vsock", "xds"),
)
"""What gRPC takes for a scheme where a host is meant: as in aisandbox_process, which this package does not import."""

_MODULE = "[A-Za-z][A-Za-z0-9_]*([.][A-Za-z][A-Za-z0-9_]*)*"
_HOST = "([[][0-9A-Fa-f:.]+(%[A-Za-z0-9_.-]+)?[]]|[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?[.]?)"
_BLANKS = "[[:space:]]*"
_TARGET = f"{_BLANKS}(dns:///)?{_HOST}:[0-9]{{1,5}}{_BLANKS}"


@dataclass(frozen=True, slots=True)
class GymnasiumEnvironment:
    """An environment registered with Gymnasium, made inside the trainer."""

    id: str = field(
        metadata=about(
            "The id of the environment, for example CartPole-v1, ALE/Pong-v5 or my_package:MyEnv-v0. What registers it "
            "must be in the trainer image.",
            min_length=1,
            max_length=200,
            pattern=Pattern(
                f"({_MODULE}:)?([A-Za-z0-9_:-]+/)?[A-Za-z0-9_.-]+",
                "must be the id of a Gymnasium environment, as 'CartPole-v1'",
            ),
        )
    )
    kwargs: Mapping[str, Any] = field(
        default_factory=dict,
        metadata=about(
            "Keyword arguments of the environment, any JSON; its keys are Python identifiers. Without it, none.",
        ),
    )


@dataclass(frozen=True, slots=True)
class GrpcEnvironment:
    """Simulators that implement aisandbox.v1.EnvironmentService; the trainer connects to them."""

    address: str = field(
        metadata=about(
            "Where the simulators listen, as seen from the trainer's pod: host:port, several of them "
            "separated by commas, or dns:///host:port for every address the name resolves to (a headless "
            "Service). Blanks around an address are ignored.",
            min_length=1,
            max_length=MAX_ADDRESS_LENGTH,
            cel=(
                CelRule(
                    f"self.matches('^{_TARGET}(,{_TARGET})*$')",
                    "must be host:port, several of them separated by commas, or dns:///host:port; as "
                    "'sim-0.sims:50061,sim-1.sims:50061' or 'dns:///sims:50061'",
                ),
                CelRule(
                    f"!self.matches('(?i)(^|,|/){_BLANKS}({'|'.join(GRPC_SCHEMES)}):[0-9]')",
                    "must have hosts that gRPC does not take for schemes, as unix and xds",
                ),
                CelRule(
                    "!self.matches(':(0+|0*([7-9][0-9]{4}|6[6-9][0-9]{3}|65[6-9][0-9]{2}|655[4-9][0-9]|6553[6-9]))"
                    f"{_BLANKS}(,|$)')",
                    "must have ports from 1 to 65535",
                ),
            ),
        )
    )
    environments: int = field(
        default=0,
        metadata=about(
            "How many environments to step together, over all addresses. 0 means the hyperparameter n_envs, "
            "or else one per address.",
            minimum=0,
            maximum=MAX_ENVIRONMENTS,
            bits=32,
        ),
    )
    options: Mapping[str, Any] = field(
        default_factory=dict,
        metadata=about(
            "Passed to the simulator when the session opens: any JSON that the simulator understands. Without "
            "it, none.",
        ),
    )

    def __post_init__(self) -> None:
        if isinstance(self.address, str):  # a file may have any JSON; its check comes later
            object.__setattr__(self, "address", ",".join(part.strip() for part in self.address.split(",")))


@dataclass(frozen=True, slots=True)
class PoolEnvironment:
    """The simulators of a pool: programs that dial the service and wait to be used."""

    name: str = field(
        metadata=about(
            "The pool. Its simulators say its name when they attach to the service.",
            min_length=1,
            max_length=63,
            pattern=Pattern(
                "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?",
                "must be 1 to 63 lower-case letters, digits and '-', beginning and ending with a letter or digit",
            ),
        )
    )
    environments: int = field(
        default=0,
        metadata=about(
            "The maximum number of environments to step together, over all simulators. 0 means the hyperparameter "
            "n_envs, or else all that are free in the pool. The environments of a simulator are taken together.",
            minimum=0,
            maximum=MAX_ENVIRONMENTS,
            bits=32,
        ),
    )
    minimum: int = field(
        default=0,
        metadata=about(
            "The minimum number of environments to train with; while there are fewer, the run waits. From there up to "
            "environments it takes those that attach later, between two rollouts. 0 means as many as environments (or "
            "n_envs) says, or else 1.",
            minimum=0,
            maximum=MAX_ENVIRONMENTS,
            bits=32,
        ),
    )
    options: Mapping[str, Any] = field(
        default_factory=dict,
        metadata=about(
            "Passed to each simulator when its session opens: any JSON that the simulators understand. Without it, "
            "none.",
        ),
    )


@dataclass(frozen=True, slots=True)
class FakeEnvironment:
    """A small environment in memory, to try the service with. It has no settings."""


Environment = GymnasiumEnvironment | GrpcEnvironment | PoolEnvironment | FakeEnvironment

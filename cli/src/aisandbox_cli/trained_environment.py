"""The options of ``aisandbox train`` about the environment that a policy is trained in, and their message.

Owns their names, help and which go together. Must not know what a start does with them.
"""

from __future__ import annotations

import re
from typing import Annotated

import typer
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox_wire import ALGORITHM_NAMES

from aisandbox_cli import options
from aisandbox_cli.errors import UsageError

Simulator = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS", help="Train against simulators at host:port (several: a:1,b:2) or dns:///name:port."
    ),
]
Pool = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Train against the simulators of this pool, which attach to the service."),
]
Gymnasium = Annotated[
    str | None,
    typer.Option(
        metavar="ID",
        help="Train against the Gymnasium environment with this id, or MODULE:ID; the service finds modules by "
        "PYTHONPATH.",
    ),
]
Environments = Annotated[
    int,
    typer.Option(
        min=0,
        metavar="N",
        help="Number of parallel environments over all addresses of --simulator; with --pool the maximum.",
        show_default="auto",
    ),
]
Minimum = Annotated[
    int,
    typer.Option(
        min=0,
        metavar="N",
        help="Start with this many environments of --pool, and take more when they attach.",
        show_default="as --environments",
    ),
]


def environment(
    simulator: str | None,
    pool: str | None,
    gymnasium: str | None,
    environments: int,
    minimum: int,
    settings: list[str],
) -> pb.Environment | None:
    """The environment of the request; None lets the service choose. Raises UsageError."""
    given = {"--simulator": simulator, "--pool": pool, "--gymnasium": gymnasium}
    if len(named := [option for option, value in given.items() if value]) > 1:
        raise UsageError(f"{' and '.join(named)}: use only one of them")
    if environments and not (simulator or pool):
        raise UsageError("--environments: only with --simulator or --pool (otherwise use -p n_envs=N)")
    if minimum and not pool:
        raise UsageError("--minimum: only with --pool")
    if settings and not named:
        raise UsageError("--environment-option: only with --simulator, --pool or --gymnasium")
    values = options.json_pairs(settings, "--environment-option")
    if simulator:
        found = pb.Environment(grpc=pb.GrpcEnvironment(address=simulator, environments=environments))
        found.grpc.options.update(values)
        return found
    if pool:
        found = pb.Environment(pool=pb.PoolEnvironment(name=pool, environments=environments, minimum=minimum))
        found.pool.options.update(values)
        return found
    if gymnasium:
        found = pb.Environment(gymnasium=pb.GymnasiumEnvironment(id=gymnasium))
        found.gymnasium.kwargs.update(values)
        return found
    return None


def experiment(algorithm: int, environment: pb.Environment | None) -> str:
    """The default of --experiment: the algorithm and the environment."""
    kind = environment.WhichOneof("kind") if environment else None
    named = (
        {"grpc": "simulator", "pool": environment.pool.name, "gymnasium": environment.gymnasium.id}
        if environment
        else {}
    )
    name = named.get(kind or "", "default")
    return re.sub(r"[^a-z0-9]+", "-", f"{ALGORITHM_NAMES[algorithm]}-{name}".lower()).strip("-")[:128]

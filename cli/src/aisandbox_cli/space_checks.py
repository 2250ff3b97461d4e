"""Checks for ``check-simulator`` of what a simulator's spaces are good for: which algorithms can train on them.

The rules need no PyTorch. The dry run is the trainer's, which is another program: it runs as a process, where it is
installed. Must not know how either is done.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from aisandbox_cli.program import WITH_TRAINER

if TYPE_CHECKING:
    from aisandbox.v1.environment_pb2 import EnvironmentSpec
    from aisandbox_environment import SpaceCheck

TRAINER = "aisandbox_trainer"
DRY_RUN_SECONDS = 300.0
"""Far more than a dry run takes: some seconds, most of them for importing PyTorch."""


def space_checks() -> Mapping[str, SpaceCheck]:
    """The checks by the rules they check."""
    return {"an algorithm takes the spaces": _check_rules, "a model can be trained on the spaces": _check_dry_run}


def _check_rules(spec: EnvironmentSpec) -> str:
    """The rules of a start call, with default hyperparameters."""
    from aisandbox_api import space_problems

    return _verdict(space_problems(spec), "is refused for every algorithm")


def _check_dry_run(spec: EnvironmentSpec) -> str:
    """What a trainer does before its first step."""
    from aisandbox_api import space_problems
    from aisandbox_environment import CheckSkipped

    algorithms = [algorithm for algorithm, problem in space_problems(spec).items() if not problem]
    if not algorithms:
        raise CheckSkipped("no algorithm takes the spaces")
    if importlib.util.find_spec(TRAINER) is None:
        raise CheckSkipped(f"the trainer is not installed here, so no model was trained on them ({WITH_TRAINER})")
    return _verdict(_dry_run(spec, algorithms), "ends before its first step with every algorithm")


def _dry_run(spec: EnvironmentSpec, algorithms: list[str]) -> Mapping[str, str]:
    """For each algorithm why its dry run fails, or "". Raises CheckSkipped if the trainer cannot be run."""
    from aisandbox_environment import CheckSkipped

    command = [sys.executable, "-m", TRAINER, "dry-run", *algorithms]
    try:
        done = subprocess.run(
            command, input=spec.SerializeToString(), capture_output=True, timeout=DRY_RUN_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise CheckSkipped(f"the trainer's dry run did not end within {DRY_RUN_SECONDS:g} s") from None
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        said = lines[-1] if lines else f"exit code {done.returncode}"
        raise CheckSkipped(f"the trainer could not do the dry run: {said}")
    results = [json.loads(line) for line in done.stdout.splitlines()]
    return {result["algorithm"]: result["problem"] for result in results}


def _verdict(problems: Mapping[str, str], failure: str) -> str:
    """The algorithms that can train, and why others cannot. Raises CheckFailed if none can."""
    from aisandbox_environment import CheckFailed

    possible = [algorithm for algorithm, problem in problems.items() if not problem]
    reasons = "; ".join(f"{algorithm}: {problem}" for algorithm, problem in problems.items() if problem)
    if not possible:
        raise CheckFailed(
            "spaces that one algorithm can train on",
            f"spaces of which a run {failure} ({reasons})",
            "Declare spaces as docs/simulators.md describes them.",
        )
    return ", ".join(possible) + (f"; not {reasons}" if reasons else "")

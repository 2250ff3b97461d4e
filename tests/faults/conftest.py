"""The frame of the fault suite: options, rows, and the table at the end. How to write a row: tests/faults/README.md.

pytest tests/faults [--faults-scale short|full|FACTOR] [--faults-seed N] [--faults-round N]
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cluster import Cluster
from fault_rows import ROWS
from fault_table import RESULTS, render
from fault_tally import Result, Rows, Tally
from faulty_trainers import TinyRun, Trainers, references, warm_trainers
from scripted_place import scripted_place, scripted_trainer_image

SEED = 20251

_DONE = pytest.StashKey[list[Result]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults")
    group.addoption("--faults-scale", default="short", help="short, full, or a part of full such as 0.25")
    group.addoption("--faults-seed", type=int, default=SEED, help=f"which faults ({SEED})")
    group.addoption("--faults-round", type=int, default=None, help="only this round, to look into a loss")
    group.addoption("--faults-context", default="", help="the context of a cluster; without one its rows are skipped")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(600 if config.getoption("--faults-round") is not None else 0))


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_DONE] = []


def pytest_report_header(config: pytest.Config) -> str:
    return f"faults: scale {config.getoption('--faults-scale')}, seed {config.getoption('--faults-seed')}"


def _folder(config: pytest.Config) -> Path:
    """A single round is no result."""
    scale = str(config.getoption("--faults-scale"))
    if config.getoption("--faults-round") is not None:
        return RESULTS / "round"
    return RESULTS / ("full" if scale not in ("short", "full") else scale)


@pytest.fixture(scope="session")
def row(pytestconfig: pytest.Config) -> Rows:
    """``with row(KEY) as tally``: the rounds of that row; at the end the result is saved, and a loss fails the test."""
    scale, seed = str(pytestconfig.getoption("--faults-scale")), int(pytestconfig.getoption("--faults-seed"))
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=Path(__file__).parent, capture_output=True, text=True
    ).stdout.strip()

    @contextmanager
    def of(key: str) -> Iterator[Tally]:
        found = next(row for row in ROWS if row.key == key)
        rounds = {"short": found.short, "full": found.full}.get(scale) or max(round(found.full * float(scale)), 1)
        file = _folder(pytestconfig) / f"{key}.json"
        tally = Tally(found, rounds, seed, file, commit, pytestconfig.getoption("--faults-round"))
        pytestconfig.stash[_DONE].append(tally.result)
        try:
            yield tally
        except BaseException:
            tally.save()
            raise
        tally.save(finished=True)
        tally.check()

    return of


@pytest.fixture(scope="session")
def trainers() -> Iterator[Trainers]:
    """Real trainers, forked from one process that has loaded everything."""
    with warm_trainers() as trainers:
        yield trainers


@pytest.fixture(scope="session")
def undisturbed(trainers: Trainers, tmp_path_factory: pytest.TempPathFactory) -> dict[str, TinyRun]:
    """A run of each kind to which nothing happened: what the others must end like. Not to be changed."""
    return references(trainers, tmp_path_factory.mktemp("undisturbed"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if results := {result.key: result for result in config.stash[_DONE]}:
        terminalreporter.section("faults")
        terminalreporter.write_line(render(results, all_rows=False))


@pytest.fixture(scope="session")
def trainer_image(pytestconfig: pytest.Config) -> str:
    """Of the scripted trainer, where the cluster's nodes find it."""
    context = str(pytestconfig.getoption("--faults-context"))
    if not context:
        pytest.skip("needs a cluster that has the resource's definition: --faults-context CONTEXT")
    return scripted_trainer_image(context)


@pytest.fixture(scope="session")
def place(pytestconfig: pytest.Config, trainer_image: str) -> Iterator[Cluster]:
    """A namespace of the suite's own."""
    with scripted_place(pytestconfig.getoption("--faults-context"), "faults") as place:
        yield place

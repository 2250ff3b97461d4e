"""The operator over a cluster that does what clusters do, with calls that fail and an operator that is killed.

Whatever happens, each run comes to its end, once, within its budget, and never has two trainers.
"""

import os
from collections.abc import Callable
from random import Random

import pytest
from aisandbox_operator.reconciler import Reconciler
from job_world import DONE, QUEUE, World
from job_world_operator import reconcile, reconciler_of

SEEDS = int(os.environ.get("CONVERGENCE_SEEDS", "5"))
ROUNDS, NAMES = 60, ("a", "b", "c", "d", "e")
SCRIPTS = ([0], [1, 0], [1], [78], [143, 143, 0], [137, 1, 0], [-1, -1, -1, 0])


def happen(world: World) -> None:
    """Something a person may do."""
    name = world.random.choice(NAMES)
    wishes: list[Callable[[], None]] = [
        lambda: world.change_spec(name, suspend=True),
        lambda: world.change_spec(name, suspend=False),
        lambda: world.change_spec(name, suspend=False),
        lambda: world.lose_job(name),
        lambda: world.change_spec(name, cancel=True),
    ]
    world.random.choices(wishes, weights=[3, 3, 3, 1, 1])[0]()


async def settle(world: World, reconciler: Reconciler) -> None:
    """No more faults and no more changes; what is not done by then never will be."""
    world.trouble = 0.0
    for name in NAMES:
        world.change_spec(name, suspend=False)
    for _ in range(200):
        world.step()
        for name in NAMES:
            assert await reconcile(reconciler, name)
        if all(run.get("status", {}).get("phase") in DONE for run in world.runs.values()):
            return
    pytest.fail(f"not at rest: {[(name, run.get('status')) for name, run in world.runs.items()]}")


def check(world: World) -> None:
    for run in world.runs.values():
        uid, limit, status = run["metadata"]["uid"], run["spec"]["backoffLimit"], run["status"]
        assert status["phase"] in DONE
        assert world.jobs_made[uid] <= 1 + world.jobs_lost[uid]
        assert status["restartsCountTowardsMax"] <= limit
        if uid in world.succeeded and not (run["spec"].get("cancel") or world.jobs_lost[uid]):
            assert status["phase"] == "Succeeded", status
        # A Job that is deleted takes with it a failure that the operator had not read.
        assert world.failures[uid] <= limit + 1 + world.jobs_lost[uid]


@pytest.mark.parametrize("deadly", [False, True], ids=["calls fail", "operator is killed"])
@pytest.mark.parametrize("seed", range(SEEDS))
async def test_runs_converge_whatever_happens(seed: int, deadly: bool) -> None:
    random = Random(seed)
    world = World(random)
    world.trouble, world.deadly = 0.3, deadly
    for name in NAMES:
        labels = {"labels": {QUEUE: "gpus"}} if random.random() < 0.3 else {}
        world.create(name, list(random.choice(SCRIPTS)), backoffLimit=random.randint(0, 3), **labels)
    reconciler = reconciler_of(world)
    for _ in range(ROUNDS):
        if random.random() < 0.3:
            happen(world)
        world.step()
        for name in random.sample(NAMES, 3):
            if not await reconcile(reconciler, name) and deadly:
                reconciler = reconciler_of(world)
    await settle(world, reconciler)
    check(world)


async def test_finished_runs_stay_finished_when_they_lose_their_jobs() -> None:
    world = World(Random(7))
    reconciler = reconciler_of(world)
    for name in NAMES:
        world.create(name, [0] if name < "c" else [78], backoffLimit=1)
    await settle(world, reconciler)
    ends = dict(world.ends)
    for name in NAMES:
        world.lose_job(name)
    for _ in range(20):
        world.step()
        for name in NAMES:
            assert await reconcile(reconciler, name)
    assert world.ends == ends
    assert not world.jobs


async def test_two_operators_at_the_same_time_make_one_job_per_run() -> None:
    world = World(Random(3))
    first, second = reconciler_of(world), reconciler_of(world)
    for name in NAMES:
        world.create(name, [1, 0], backoffLimit=2)
    for _ in range(SEEDS):
        world.step()
        for name in NAMES:
            await reconcile(first, name)
            await reconcile(second, name)
    await settle(world, first)
    assert set(world.jobs_made.values()) == {1}
    check(world)


async def test_run_that_is_done_costs_few_calls() -> None:
    world = World(Random(1))
    reconciler = reconciler_of(world)
    for name in NAMES:
        world.create(name, [0], backoffLimit=0)
    await settle(world, reconciler)
    writes = sum(count for call, count in world.calls.items() if call != "read")
    for name in NAMES:
        await reconcile(reconciler, name)
    assert sum(count for call, count in world.calls.items() if call != "read") == writes

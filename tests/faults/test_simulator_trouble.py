"""Simulators die, hang, answer rubbish and come back; what trainers have learned is held against what was served."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aisandbox_crds.spec import Environment, GrpcEnvironment, PoolEnvironment
from fault_tally import Fault, Rows
from faulty_simulator import POOL, RUBBISH, Script, Simulator, simulators
from faulty_trainers import LEARNERS, TinyRun, Trainer, Trainers, is_taught, script_for
from pool_service import PoolService
from served_transitions import ENVIRONMENTS, check_parameters, check_replay_buffer, check_rollouts, read_lines
from waiting import wait_until

PATIENT = {"SIMULATOR_TIMEOUT_SECONDS": "0.6", "SIMULATOR_PATIENCE_SECONDS": "60"}
TROUBLES = ("dies", "hangs", "answers rubbish", "comes back")


@dataclass
class Scene:
    """A trainer, the simulator it steps, and what is between them."""

    fault: Fault
    run: TinyRun
    simulator: Simulator
    served: Path
    trainer: Trainer | None = None
    attached: bool = False

    def lines(self) -> list[dict[str, Any]]:
        return read_lines(self.served)

    def steps(self) -> int:
        return sum("actions" in line for line in self.lines())

    def wait_for_trouble(self) -> None:
        wait_until(lambda: any("trouble" in line for line in self.lines()) or self.ended(), every=0.01)

    def ended(self) -> bool:
        return self.trainer is not None and self.trainer.changed.is_set()

    def recovered_since(self, moment: float) -> None:
        """Notes when the first step after now is served, if one is."""
        before = self.steps()
        wait_until(lambda: self.steps() > before or self.ended(), every=0.01)
        if self.steps() > before:
            self.fault.recovered(time.monotonic() - moment)


def test_simulator_trouble_adds_no_wrong_transition(row: Rows, trainers: Trainers, tmp_path: Path) -> None:
    with row("simulator-trouble") as tally:
        context = simulators()

        def one_round(fault: Fault) -> None:
            folder = tmp_path / str(fault.number)
            folder.mkdir()
            simulator = Simulator(context)
            try:
                _scene(fault, trainers, folder, simulator)
            finally:
                simulator.close()

        tally.run(one_round, workers=2)
        tally.note(
            "After each of these, every transition in the replay buffer (DQN) and every step of a rollout that was "
            "learned from (the others) was one that a simulator had written down as served, with the action it had got."
        )


def test_pool_trouble_adds_no_wrong_transition(row: Rows, trainers: Trainers, tmp_path: Path) -> None:
    with row("pool-trouble") as tally:
        context = simulators()

        def one_round(fault: Fault) -> None:
            folder = tmp_path / str(fault.number)
            folder.mkdir()
            service = PoolService(by_socket=fault.random.random() < 0.5)
            service.start()
            simulator = Simulator(context, service.address)
            try:
                _scene(fault, trainers, folder, simulator, service)
            finally:
                simulator.close()
                service.stop()

        tally.run(one_round, workers=2)
        tally.note("What is held against what was served is the same as in the row before.")


def _scene(
    fault: Fault, trainers: Trainers, folder: Path, simulator: Simulator, service: PoolService | None = None
) -> None:
    chance = fault.random
    trouble = TROUBLES[fault.number % len(TROUBLES)]
    kind = chance.choice(LEARNERS)
    at = chance.randrange(1, 90)
    word = {"dies": "die", "hangs": "hang", "answers rubbish": chance.choice(RUBBISH), "comes back": "die"}.get(
        trouble, ""
    )
    script = script_for(kind, folder / "served", trouble=word, at=at)
    process = simulator.start(script)
    rollouts = folder / "rollouts"
    rollouts.mkdir()
    settings = {**PATIENT, "FAULTS_ROLLOUTS": str(rollouts)}
    environment: Environment = GrpcEnvironment(simulator.address, ENVIRONMENTS)
    if service is not None:
        environment, settings["PROGRESS_ADDRESS"] = PoolEnvironment(POOL, ENVIRONMENTS), service.address
        settings |= service.variables
    run = TinyRun(trainers, folder, kind, environment=environment, settings=settings)
    scene = Scene(fault, run, simulator, script.served, attached=service is not None)
    scene.trainer = run.start()
    fault.injected(trouble, f"{kind}, {word} at step {at}" + (f", {service.way}" if service is not None else ""))
    if word:
        scene.wait_for_trouble()
    may_fail = _ACTIONS[trouble](scene, script, process)
    _check_end(scene, may_fail)
    learned = check_rollouts(scene.served, rollouts, masked=script.masked)
    assert learned or kind == "DQN" or not run.run.checkpoints()
    if script.taught:
        check_parameters(scene.served, is_taught)


def _dies(scene: Scene, script: Script, process: Any) -> bool:
    process.join(30)
    scene.fault.wait(0, 0.7)
    scene.simulator.start(replace(script, trouble=""))
    scene.recovered_since(time.monotonic())
    return False


def _hangs(scene: Scene, script: Script, process: Any) -> bool:
    """It stops for a while; then it continues, or is replaced."""
    scene.fault.wait(0.1, 2)
    if scene.fault.random.random() < 0.7:
        os.kill(process.pid, signal.SIGCONT)
        scene.recovered_since(time.monotonic())
        return False
    process.kill()
    process.join()
    return _dies(scene, script, process)


def _answers_rubbish(scene: Scene, script: Script, process: Any) -> bool:
    """One answer; what follows would be right. The run may end, with a reason."""
    return True


def _comes_back(scene: Scene, script: Script, process: Any) -> bool:
    """It is gone for longer, comes and goes, or what comes is another one or nothing of the kind."""
    process.join(30)
    chance = scene.fault.random
    nonsense = [] if scene.attached else ["as nonsense"]  # at the simulator's address, which an attached one has not
    how = chance.choice(["after seconds", "and goes", "as another", *nonsense])
    scene.fault.cases.append(f"it comes back {how}")
    if how == "after seconds":
        scene.fault.wait(1, 3)
    elif how == "and goes":
        for _ in range(3):
            process = scene.simulator.start(replace(script, trouble=""))
            scene.fault.wait(0, 0.3)
            process.kill()
            process.join()
    elif how == "as another":
        scene.simulator.start(replace(script, trouble="", width=3))
        return True
    else:
        scene.simulator.serve_nonsense(chance.uniform(0.3, 1.5), chance)
    scene.simulator.start(replace(script, trouble=""))
    scene.recovered_since(time.monotonic())
    return False


_ACTIONS: dict[str, Callable[[Scene, Script, Any], bool]] = {
    "dies": _dies,
    "hangs": _hangs,
    "answers rubbish": _answers_rubbish,
    "comes back": _comes_back,
}


def _check_end(scene: Scene, may_fail: bool) -> None:
    assert scene.trainer is not None
    code, run = scene.trainer.wait(), scene.run
    if code == 0:
        assert run.ended_well()
    else:
        assert may_fail, f"exit code {code}\n{run.tail()}"
        failure = run.message().failure
        assert failure is not None
        assert code in (75, 78)
        assert failure.reason in ("SimulatorInvalidReply", "SimulatorProtocol", "SimulatorUnreachable"), failure
        assert len(failure.message) > 20, failure
    checkpoint = run.run.newest_checkpoint()
    if checkpoint is None:
        assert code != 0
    elif run.kind == "DQN":
        check_replay_buffer(scene.served, checkpoint.path)

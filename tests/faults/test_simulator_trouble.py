"""Simulators die, hang, answer rubbish and come back; what trainers have learned is held against what was served."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from aisandbox_crds.spec import Environment, GrpcEnvironment, PoolEnvironment
from aisandbox_model_store import CHECKPOINT_ZIP
from aisandbox_trainer.checkpoints import files as checkpoints
from aisandbox_trainer.checkpoints import replay_file
from fault_tally import Fault, Rows
from faulty_simulator import EPISODE, POOL, RUBBISH, Script, Simulator, reward_of, simulators
from faulty_trainers import TinyRun, Trainer, Trainers
from pool_service import PoolService
from stable_baselines3 import DQN
from stable_baselines3.common.buffers import ReplayBuffer
from waiting import wait_until

ENVIRONMENTS = 2
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
    service: PoolService | None = None

    def lines(self) -> list[dict[str, Any]]:
        if not self.served.exists():
            return []
        found = []
        for line in self.served.read_text().splitlines():
            with suppress(ValueError):  # the last one may be half written
                found.append(json.loads(line))
        return found

    def wait_for_trouble(self) -> None:
        wait_until(lambda: any("trouble" in line for line in self.lines()) or self.ended(), every=0.01)

    def ended(self) -> bool:
        return self.trainer is not None and self.trainer.changed.is_set()

    def recovered_since(self, moment: float) -> None:
        """Notes when the first step after now is served, if one is."""
        before = len(self.lines())
        wait_until(lambda: len(self.lines()) > before or self.ended(), every=0.01)
        if len(self.lines()) > before:
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
            "learned from (PPO, A2C) was one that a simulator had written down as served, with the action it had got."
        )


def test_pool_trouble_adds_no_wrong_transition(row: Rows, trainers: Trainers, tmp_path: Path) -> None:
    with row("pool-trouble") as tally:
        context = simulators()

        def one_round(fault: Fault) -> None:
            folder = tmp_path / str(fault.number)
            folder.mkdir()
            service = PoolService()
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
    troubles = TROUBLES if service is None else (*TROUBLES, "the service is killed")
    trouble = troubles[fault.number % len(troubles)]
    kind = chance.choice(["DQN", "DQN", "PPO", "A2C"])
    at = chance.randrange(1, 90)
    word = {"dies": "die", "hangs": "hang", "answers rubbish": chance.choice(RUBBISH), "comes back": "die"}.get(
        trouble, ""
    )
    script = Script(served=folder / "served", trouble=word, at=at)
    process = simulator.start(script)
    rollouts = folder / "rollouts"
    rollouts.mkdir()
    settings = {**PATIENT, "FAULTS_ROLLOUTS": str(rollouts)}
    environment: Environment = GrpcEnvironment(simulator.address, ENVIRONMENTS)
    if service is not None:
        environment, settings["PROGRESS_ADDRESS"] = PoolEnvironment(POOL, ENVIRONMENTS), service.address
    run = TinyRun(trainers, folder, kind, environment=environment, settings=settings)
    scene = Scene(fault, run, simulator, script.served, service=service)
    scene.trainer = run.start()
    fault.injected(trouble, f"{kind}, {word} at step {at}")
    if word:
        scene.wait_for_trouble()
    may_fail = _ACTIONS[trouble](scene, script, process)
    _check_end(scene, may_fail)
    _check_rollouts(scene, rollouts)


def _dies(scene: Scene, script: Script, process: Any) -> bool:
    process.join(30)
    scene.fault.wait(0, 0.7)
    scene.simulator.start(Script(script.served))
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
    nonsense = [] if scene.service else ["as nonsense"]  # at the simulator's address, which an attached one has not
    how = chance.choice(["after seconds", "and goes", "as another", *nonsense])
    scene.fault.cases.append(f"it comes back {how}")
    if how == "after seconds":
        scene.fault.wait(1, 3)
    elif how == "and goes":
        for _ in range(3):
            process = scene.simulator.start(Script(script.served))
            scene.fault.wait(0, 0.3)
            process.kill()
            process.join()
    elif how == "as another":
        scene.simulator.start(Script(script.served, width=3))
        return True
    else:
        scene.simulator.serve_nonsense(chance.uniform(0.3, 1.5), chance)
    scene.simulator.start(Script(script.served))
    scene.recovered_since(time.monotonic())
    return False


def _service_is_killed(scene: Scene, script: Script, process: Any) -> bool:
    """Simulators and the trainer lose it at a step, and find it again."""
    assert scene.service is not None
    at = scene.fault.random.randrange(1, 90)
    wait_until(lambda: len(scene.lines()) >= at or scene.ended(), every=0.01)
    scene.service.stop()
    scene.fault.wait(0, 0.7)
    scene.service.start()
    scene.recovered_since(time.monotonic())
    return False


_ACTIONS: dict[str, Callable[[Scene, Script, Any], bool]] = {
    "dies": _dies,
    "hangs": _hangs,
    "answers rubbish": _answers_rubbish,
    "comes back": _comes_back,
    "the service is killed": _service_is_killed,
}


def _check_end(scene: Scene, may_fail: bool) -> None:
    assert scene.trainer is not None
    code, run = scene.trainer.wait(), scene.run
    if code == 0:
        assert run.run.load_model("final").published.timesteps >= run.spec.total_timesteps
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
        _check_replay_buffer(scene, checkpoint.path)


def _served(scene: Scene) -> dict[tuple[int, int], list[int]]:
    return {(line["session"], line["step"]): line["actions"] for line in scene.lines() if "actions" in line}


def _check_replay_buffer(scene: Scene, folder: Path) -> None:
    model = DQN.load(folder / CHECKPOINT_ZIP, device="cpu")
    assert model.replay_buffer is None or model.replay_buffer.size() == 0
    space = model.observation_space
    assert space is not None
    buffer = ReplayBuffer(model.buffer_size, space, model.action_space, device="cpu", n_envs=ENVIRONMENTS)
    replay_file.load(model, buffer, folder / checkpoints.REPLAY_BUFFER)
    assert buffer.size() * ENVIRONMENTS == model.num_timesteps, "as many transitions as steps that count"
    served, seen = _served(scene), set()
    for place in range(buffer.size()):
        for i in range(ENVIRONMENTS):
            before, after = buffer.observations[place, i], buffer.next_observations[place, i]
            session, step, environment, episode = (int(value) for value in after)
            assert tuple(before) == (session, step - 1, environment, episode), f"{before} before {after}"
            assert environment == i
            assert served[session, step][i] == buffer.actions[place, i, 0], f"another action in {after}"
            assert buffer.rewards[place, i] == np.float32(reward_of(session, step, i)), f"another reward in {after}"
            assert buffer.dones[place, i] == ((step + i) % EPISODE == 0), f"another end in {after}"
            assert (session, step, i) not in seen, f"{after} twice"
            seen.add((session, step, i))


def _check_rollouts(scene: Scene, folder: Path) -> None:
    """Each is steps of one session, in order; nothing of a broken one is in it."""
    served = _served(scene)
    files = sorted(folder.iterdir(), key=lambda path: int(path.stem))
    assert files or scene.run.kind == "DQN" or not scene.run.run.checkpoints()
    for file in files:
        with np.load(file) as rollout:
            observations, actions = rollout["observations"], rollout["actions"]
            rewards = rollout["rewards"]
        first = observations[0, 0]
        for place in range(len(observations)):
            for i in range(ENVIRONMENTS):
                session, step, environment, _ = (int(value) for value in observations[place, i])
                assert (session, step, environment) == (int(first[0]), int(first[1]) + place, i)
                assert served[session, step + 1][i] == int(actions[place, i].item())
                assert rewards[place, i] == np.float32(reward_of(session, step + 1, i))

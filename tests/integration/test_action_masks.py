"""Action masks from the environment to the served policy: no forbidden action, and what is wrong is said at once."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1.environment_pb2 import SimulatorReply
from aisandbox_crds import (
    Algorithm,
    Environment,
    Evaluation,
    ExitCode,
    GrpcEnvironment,
    GymnasiumEnvironment,
    StartFrom,
    TerminationMessage,
    TrainerStart,
    TrainingRunSpec,
)
from aisandbox_environment import SimulatorSession, create_environment_server
from aisandbox_environment.gymnasium_host import GymnasiumBatch, GymnasiumSimulation
from aisandbox_environment.reply_reader import ReplyReader
from aisandbox_environment.reply_writer import ReplyWriter
from aisandbox_inference.policy import Policy
from aisandbox_model_store import CHECKPOINT_ZIP, RunStore
from aisandbox_trainer.checkpoints.weights import WEIGHTS, read_weights, read_zip
from aisandbox_trainer.environments.in_process import gymnasium_env, vectorized
from aisandbox_trainer.errors import InvalidEnvironmentReply
from aisandbox_trainer.run.attempt import run_attempt
from aisandbox_trainer.run.spaces_dry_run import dry_run_spaces
from aisandbox_trainer.runtime.stop import Stop
from aisandbox_wire import InvalidValue
from masked_worlds import ACTIONS, MaskedWorld, choices

ID = "masked_worlds:Masked-v0"
EPISODES = 20


@pytest.fixture(autouse=True)
def _nothing_forbidden_was_done() -> None:
    MaskedWorld.forbidden = 0


def train(folder: Path, environment: Environment, algorithm: str = "PPO", total: int = 96, **more: Any) -> int:
    evaluation, start_from, run = more.pop("evaluation", None), more.pop("start_from", None), more.pop("run", "run")
    small = {"n_steps": 24, "batch_size": 16, "n_epochs": 1} if "PPO" in algorithm else {}
    spec = TrainingRunSpec(
        algorithm=Algorithm(algorithm),
        total_timesteps=total,
        environment=environment,
        seed=3,
        hyperparameters={key: str(value) for key, value in {**small, **more}.items()},
        checkpoint_every_timesteps=48,
        evaluation=evaluation,
        start_from=start_from,
    )
    folder.mkdir(exist_ok=True)
    return run_attempt(TrainerStart(run, None, spec, folder, folder, termination_message_path=folder / "end"), Stop())


def why(folder: Path) -> str:
    failure = TerminationMessage.from_json((folder / "end").read_text()).failure
    return "" if failure is None else failure.message


def served(folder: Path) -> Policy:
    run = RunStore(folder).run("run")
    return Policy("run", run.read_model(run.model("final")), np.random.default_rng(0))


@pytest.mark.parametrize("kind", ACTIONS)
def test_policy_trained_over_the_bridge_chooses_no_forbidden_action_in_training_evaluation_and_serving(
    kind: str, tmp_path: Path
) -> None:
    with create_environment_server(GymnasiumSimulation(ID, {"kind": kind})) as server:
        environment = GrpcEnvironment(server.address, environments=2)
        assert train(tmp_path, environment, evaluation=Evaluation(48, 2, stochastic=True), normalize=True) == 0
        assert MaskedWorld.forbidden == 0
        policy = served(tmp_path)
        assert policy.description.algorithm == pb.ALGORITHM_MASKABLEPPO
        assert play(server.address, policy, kind, with_masks=True) == 0
        assert play(server.address, policy, kind, with_masks=False) > 0, "the world forbids what the policy would do"


def play(address: str, policy: Policy, kind: str, *, with_masks: bool) -> int:
    """Plays EPISODES episodes, sampled, by what Act does; returns how many forbidden actions were chosen."""
    forbidden = ended = 0
    with SimulatorSession.connect(address, 1) as session:
        now: Any = session.reset([1])
        while ended < EPISODES:
            (mask,) = now.action_masks
            feed = policy.observations.from_numbers(now.observations[0][0].tolist())
            action = policy.act(
                feed | (policy.masks.from_flags(mask.tolist()) if with_masks else {}), 1, stochastic=True
            )
            forbidden += not mask[choices(kind, action[0])].all()
            now = session.step(action)
            ended += len(now.ended)
    return forbidden


def test_algorithm_that_cannot_obey_masks_is_refused_before_its_first_step(tmp_path: Path) -> None:
    assert train(tmp_path, GymnasiumEnvironment(ID), "A2C") == ExitCode.PERMANENT
    assert "A2C cannot obey action masks, and they are declared; use PPO or MaskablePPO" in why(tmp_path)


def test_maskable_ppo_without_masks_is_refused(tmp_path: Path) -> None:
    assert train(tmp_path, GymnasiumEnvironment("CartPole-v1"), "MaskablePPO") == ExitCode.PERMANENT
    assert "MaskablePPO needs action masks, and none are declared; use PPO" in why(tmp_path)


WRONG = {
    "nothing allowed": (np.zeros(4, bool), "action_masks: the mask of environment 1 allows no action"),
    "too short": (np.ones(3, bool), "environment 1: has 3 values of bool; the actions need 4, each 0 or 1"),
    "no flags": (np.array([0.0, 0.5, 1.0, 1.0]), "environment 1: has a value that is neither 0 nor 1"),
    "of several lengths": ([[True], [True, False, True]], "environment 1: is no array of 4 values"),
    "nothing returned": (None, "environment 1: has 1 values of object; the actions need 4, each 0 or 1"),
}


@pytest.mark.parametrize(("mask", "expected"), WRONG.values(), ids=WRONG)
def test_wrong_mask_is_an_error_with_the_number_of_the_environment(mask: Any, expected: str) -> None:
    environments = vectorized(partial(gymnasium_env, ID, {}), 2)
    environments.reset()
    batch = GymnasiumSimulation(ID).make(2, {})
    batch.reset([1, 2])
    assert len(environments.env_method("action_masks")) == 2
    for second in (environments.envs[1], batch._environments[1]):
        world: Any = second.unwrapped
        world.says = mask
    with pytest.raises(InvalidEnvironmentReply, match=expected):
        environments.env_method("action_masks")
    with pytest.raises(InvalidValue, match=expected):
        read_step(batch)
    first: Any = environments.envs[0].unwrapped
    first.action_masks = mask
    with pytest.raises(InvalidEnvironmentReply, match="action_masks of the environment must be a method"):
        environments.env_method("action_masks")


def read_step(batch: GymnasiumBatch) -> None:
    """Takes a step, and reads its reply as the client does."""
    reply = SimulatorReply.FromString(ReplyWriter(batch.spec, 2).step(batch.step(np.array([3, 3]))))
    ReplyReader(batch.spec, 2).step(reply.step)


def test_mask_that_forbids_everything_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MaskedWorld, "says", np.zeros(4, bool))
    with create_environment_server(GymnasiumSimulation(ID)) as server:
        assert train(tmp_path, GrpcEnvironment(server.address)) == ExitCode.PERMANENT
    assert "the mask of environment 0 allows no action" in why(tmp_path)


def test_run_that_was_begun_without_masks_goes_on_without_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    method = MaskedWorld.action_masks
    monkeypatch.delattr(MaskedWorld, "action_masks")
    assert train(tmp_path, GymnasiumEnvironment(ID)) == 0
    monkeypatch.setattr(MaskedWorld, "action_masks", method, raising=False)
    MaskedWorld.forbidden = 0
    assert train(tmp_path, GymnasiumEnvironment(ID), total=192) == 0
    assert MaskedWorld.forbidden > 0
    assert served(tmp_path).description.algorithm == pb.ALGORITHM_PPO


def test_run_with_masks_starts_from_one_of_ppo_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as without:
        without.delattr(MaskedWorld, "action_masks")
        assert train(tmp_path, GymnasiumEnvironment(ID), run="unmasked") == 0
    MaskedWorld.forbidden = 0
    assert train(tmp_path, GymnasiumEnvironment(ID), start_from=StartFrom("unmasked")) == 0
    assert MaskedWorld.forbidden == 0
    first = RunStore(tmp_path).run("run").checkpoint("step:0")
    source = RunStore(tmp_path).run("unmasked")
    taken = read_zip(first.path / CHECKPOINT_ZIP, largest=1 << 24).policy
    known = read_weights(source.weights_of(source.model("final")).path / WEIGHTS).policy
    assert taken.keys() == known.keys()
    assert all(value.equal(known[name]) for name, value in taken.items())
    assert served(tmp_path).description.algorithm == pb.ALGORITHM_MASKABLEPPO


def test_run_with_masks_does_not_go_on_without_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert train(tmp_path, GymnasiumEnvironment(ID), use_sde=False, policy_kwargs="dict(log_std_init=-1)") == 0
    monkeypatch.delattr(MaskedWorld, "action_masks")
    assert train(tmp_path, GymnasiumEnvironment(ID), total=192) == ExitCode.PERMANENT
    assert "MaskablePPO needs action masks, and none are declared" in why(tmp_path)


def test_dry_run_of_spaces_obeys_masks() -> None:
    spec = GymnasiumSimulation(ID, {"kind": "multi_discrete"}).spec.to_proto()
    assert dry_run_spaces(spec, Algorithm.PPO) == ""
    assert "cannot obey action masks" in dry_run_spaces(spec, Algorithm.A2C)

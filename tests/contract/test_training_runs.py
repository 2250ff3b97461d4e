"""PolicyTrainerService's calls about training, as policy_trainer.proto promises them, on every backend."""

import asyncio
from typing import Any

import grpc
import pytest
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox_crds import Algorithm
from google.rpc import error_details_pb2
from grpc_status import rpc_status

FOREVER = 10**9


def violations(refusal: grpc.aio.AioRpcError) -> dict[str, str]:
    """The fields of the refusal's BadRequest details and the rules they broke."""
    details = error_details_pb2.BadRequest()
    status = rpc_status.from_call(refusal)
    assert status is not None
    assert status.details[0].Unpack(details)
    return {violation.field: violation.description for violation in details.field_violations}


async def test_start_returns_before_the_run_ends(service: Any) -> None:
    run = await service.begin(model_output_path="./my_model.zip", seed=7)
    status = await service.done(run)
    assert status.phase == pb.PHASE_SUCCEEDED
    assert (status.timesteps_done, status.total_timesteps, status.seed) == (100, 100, 7)
    assert status.last_checkpoint_path == "./my_model.zip"
    assert service.files.read("my_model.zip") == b"zip of step 100"
    assert status.latest_model.timesteps == status.latest_checkpoint.timesteps == 100
    assert status.create_time.ToDatetime() <= status.start_time.ToDatetime() <= status.completion_time.ToDatetime()
    assert (status.experiment_id, status.algorithm) == ("lander", pb.ALGORITHM_PPO)
    assert status.environment == service.request().environment
    assert run.startswith("lander-")


async def test_start_records_the_algorithm_of_its_name(service: Any) -> None:
    a2c = await service.stub.StartTrainingA2C(service.request())
    dqn = await service.stub.StartTrainingDQN(service.request())
    assert (await service.status(a2c.run_id)).algorithm == pb.ALGORITHM_A2C
    assert (await service.status(dqn.run_id)).algorithm == pb.ALGORITHM_DQN
    await service.done(a2c.run_id)


async def test_start_takes_the_algorithm_of_the_request(service: Any) -> None:
    run = await service.stub.StartTraining(service.request(algorithm=pb.ALGORITHM_CROSSQ))
    assert (await service.status(run.run_id)).algorithm == pb.ALGORITHM_CROSSQ
    refusal = await service.refused(service.stub.StartTraining(service.request()))
    assert f"algorithm: must be one of {', '.join(Algorithm)}, got none" in refusal.details()
    refusal = await service.refused(service.stub.StartTrainingA2C(service.request(algorithm=pb.ALGORITHM_SAC)))
    assert "algorithm: is SAC, and the call starts A2C" in refusal.details()


async def test_status_is_live_while_a_run_trains(service: Any) -> None:
    run = await service.begin(total=FOREVER)
    first = await service.training(run)
    later = await service.until(run, lambda status: status.timesteps_done > first.timesteps_done)
    assert later.fps > 0
    assert later.estimated_remaining_seconds > 0
    assert later.episode_reward_mean > 0
    saved = await service.until(run, lambda status: status.last_checkpoint_path)
    assert service.files.read(saved.last_checkpoint_path).startswith(b"zip of step")


async def test_start_without_seed_records_one(service: Any) -> None:
    runs = [await service.begin() for _ in range(3)]
    seeds = {(await service.status(run)).seed for run in runs}
    assert len(seeds) > 1
    assert all(0 <= seed < 2**32 for seed in seeds)


async def test_start_without_environment_sends_none(service: Any) -> None:
    run = (await service.stub.StartTrainingPPO(pb.TrainingRequest(experiment_id="e", total_timesteps=20))).run_id
    status = await service.done(run)
    assert status.phase == pb.PHASE_SUCCEEDED
    assert not status.HasField("environment")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"experiment_id": ""}, "experiment_id"),
        ({"experiment_id": "a\nb"}, "experiment_id"),
        ({"total_timesteps": 0}, "total_timesteps"),
        ({"total_timesteps": -5}, "total_timesteps"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**32}, "seed"),
        ({"hyperparameters": {"learning_rat": "1e-3"}}, "hyperparameters.learning_rat"),
        ({"hyperparameters": {"n_steps": "many"}}, "hyperparameters.n_steps"),
        ({"hyperparameters": {"gamma": "1.5"}}, "hyperparameters.gamma"),
        ({"model_output_path": "../out.zip"}, "model_output_path"),
        ({"model_output_path": "/etc/out.zip"}, "model_output_path"),
        ({"model_output_path": "runs/out.zip"}, "model_output_path"),
        ({"environment": pb.Environment()}, "environment"),
        ({"environment": pb.Environment(grpc=pb.GrpcEnvironment(address="nowhere"))}, "environment.grpc.address"),
        ({"request_id": "x" * 129}, "request_id"),
        ({"checkpoint_every_timesteps": -1}, "checkpoint_every_timesteps"),
        ({"evaluation": pb.Evaluation(episodes=10_001)}, "evaluation.episodes"),
        ({"start_from": pb.StartFrom()}, "start_from"),
        ({"start_from": pb.StartFrom(run="nobody")}, "start_from.run"),
        ({"start_from": pb.StartFrom(zip="nothing.zip")}, "start_from.zip"),
        ({"start_from": pb.StartFrom(zip="runs/a.zip")}, "start_from.zip"),
        ({"demonstrations": pb.Demonstrations()}, "demonstrations.file"),
        ({"demonstrations": pb.Demonstrations(file="nothing.parquet")}, "demonstrations.file"),
        ({"demonstrations": pb.Demonstrations(file="a", epochs=10_001)}, "demonstrations.epochs"),
        ({"stop_when": pb.StopWhen(evaluation_reward_mean=1)}, "stop_when.evaluation_reward_mean"),
    ],
)
async def test_start_refuses_a_bad_field_by_name(service: Any, fields: dict[str, Any], field: str) -> None:
    request = pb.TrainingRequest(**{"experiment_id": "e", "total_timesteps": 100, **fields})
    refusal = await service.refused(service.stub.StartTrainingPPO(request))
    assert refusal.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert set(violations(refusal)) == {field}
    assert field in refusal.details()
    assert not (await service.stub.ListTrainingRuns(pb.ListTrainingRunsRequest())).runs


async def test_start_names_every_bad_field_at_once(service: Any) -> None:
    request = pb.TrainingRequest(experiment_id="", total_timesteps=0, hyperparameters={"gama": "1"})
    refusal = await service.refused(service.stub.StartTrainingPPO(request))
    assert set(violations(refusal)) == {"experiment_id", "total_timesteps", "hyperparameters.gama"}
    assert "gamma" in violations(refusal)["hyperparameters.gama"]


async def test_start_refuses_an_output_path_through_a_link_that_leaves(service: Any) -> None:
    service.files.link("out", "/tmp")
    refusal = await service.refused(service.stub.StartTrainingPPO(service.request(model_output_path="out/a.zip")))
    assert refusal.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert set(violations(refusal)) == {"model_output_path"}


async def test_start_refuses_an_output_path_another_unfinished_run_will_write(service: Any) -> None:
    run = await service.begin(total=FOREVER, model_output_path="./a.zip")
    refusal = await service.refused(service.stub.StartTrainingPPO(service.request(model_output_path="a.zip")))
    assert refusal.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert run in refusal.details()
    await service.stub.CancelTraining(pb.CancelTrainingRequest(run_id=run))
    await service.done(run)
    await service.begin(model_output_path="a.zip")


async def test_start_takes_what_another_run_has_learned_if_it_fits(service: Any) -> None:
    first = await service.begin()
    await service.done(first)
    start = pb.StartFrom(run=first, checkpoint="latest")
    assert (await service.done(await service.begin(start_from=start))).phase == pb.PHASE_SUCCEEDED
    request = service.request(start_from=start)
    request.hyperparameters.clear()
    refusal = await service.refused(service.stub.StartTrainingA2C(request))
    assert "is trained with PPO, and this run with A2C" in violations(refusal)["start_from.run"]


async def test_start_with_the_same_request_id_is_the_same_run(service: Any) -> None:
    first = await service.begin(request_id="r1", model_output_path="a.zip")
    await service.done(first)
    assert await service.begin(request_id="r1", model_output_path="a.zip") == first
    assert len((await service.stub.ListTrainingRuns(pb.ListTrainingRunsRequest())).runs) == 1


async def test_concurrent_starts_with_one_request_id_are_one_run(service: Any) -> None:
    runs = await asyncio.gather(*(service.begin(total=FOREVER, request_id="r1") for _ in range(8)))
    assert len(set(runs)) == 1
    assert len((await service.stub.ListTrainingRuns(pb.ListTrainingRunsRequest())).runs) == 1


@pytest.mark.parametrize("changed", [{"total": 99}, {"hyperparameters": {"gamma": "0.9"}}, {"seed": 3}])
async def test_start_with_a_used_request_id_and_another_request_is_refused(
    service: Any, changed: dict[str, Any]
) -> None:
    run = await service.begin(request_id="r1")
    refusal = await service.refused(service.begin(request_id="r1", **changed))
    assert refusal.code() is grpc.StatusCode.ALREADY_EXISTS
    assert run in refusal.details()


async def test_start_with_a_used_request_id_and_another_experiment_is_refused(service: Any) -> None:
    await service.begin(request_id="r1")
    request = service.request(request_id="r1")
    request.experiment_id = "rover"
    refusal = await service.refused(service.stub.StartTrainingPPO(request))
    assert refusal.code() is grpc.StatusCode.ALREADY_EXISTS


@pytest.mark.local("where there is a place for a trainer is the cluster's to decide")
async def test_runs_beyond_the_slots_wait_and_get_their_turn(service: Any) -> None:
    first = [await service.begin(total=FOREVER) for _ in range(2)]
    third, fourth = await service.begin(), await service.begin()
    for run in first:
        await service.training(run)
    assert (await service.status(third)).phase == pb.PHASE_PENDING
    await service.stub.CancelTraining(pb.CancelTrainingRequest(run_id=first[0]))
    assert (await service.done(third)).phase == pb.PHASE_SUCCEEDED
    ended, later = await service.status(third), await service.done(fourth)
    assert ended.completion_time.ToDatetime() <= later.start_time.ToDatetime()
    assert (await service.status(first[1])).phase == pb.PHASE_RUNNING


@pytest.mark.local("where there is a place for a trainer is the cluster's to decide")
async def test_start_beyond_the_waiting_runs_is_refused(service: Any) -> None:
    runs = [await service.begin(total=FOREVER) for _ in range(5)]
    refusal = await service.refused(service.begin())
    assert refusal.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "MAX_PENDING_RUNS" in refusal.details()
    await service.stub.CancelTraining(pb.CancelTrainingRequest(run_id=runs[-1]))
    await service.begin()


CALLS_ABOUT_A_RUN = [
    ("GetTrainingStatus", pb.StatusRequest),
    ("CancelTraining", pb.CancelTrainingRequest),
    ("SuspendTraining", pb.SuspendTrainingRequest),
    ("ResumeTraining", pb.ResumeTrainingRequest),
]


@pytest.mark.parametrize(("method", "message"), CALLS_ABOUT_A_RUN)
@pytest.mark.parametrize("run", ["unknown", "../../etc", "x" * 300])
async def test_call_for_an_unknown_run_is_not_found(service: Any, method: str, message: Any, run: str) -> None:
    refusal = await service.refused(getattr(service.stub, method)(message(run_id=run)))
    assert refusal.code() is grpc.StatusCode.NOT_FOUND
    assert run[:100] in refusal.details()


@pytest.mark.parametrize(("method", "message"), CALLS_ABOUT_A_RUN)
async def test_call_without_a_run_id_is_refused(service: Any, method: str, message: Any) -> None:
    refusal = await service.refused(getattr(service.stub, method)(message()))
    assert refusal.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert refusal.details().startswith("run_id:")


async def test_watch_ends_with_the_last_status(service: Any) -> None:
    run = await service.begin(total=300)
    statuses = [status async for status in service.stub.WatchTraining(pb.WatchTrainingRequest(run_id=run))]
    assert [status.is_done for status in statuses] == [False] * (len(statuses) - 1) + [True]
    assert statuses[-1].phase == pb.PHASE_SUCCEEDED
    steps = [status.timesteps_done for status in statuses]
    assert steps == sorted(steps)
    assert pb.PHASE_RUNNING in {status.phase for status in statuses}


async def test_watch_of_a_done_run_is_one_message(service: Any) -> None:
    run = await service.begin()
    await service.done(run)
    statuses = [status async for status in service.stub.WatchTraining(pb.WatchTrainingRequest(run_id=run))]
    assert [status.phase for status in statuses] == [pb.PHASE_SUCCEEDED]


async def test_watch_of_an_unknown_run_is_not_found(service: Any) -> None:
    call = service.stub.WatchTraining(pb.WatchTrainingRequest(run_id="nobody"))
    assert (await service.refused(call.read())).code() is grpc.StatusCode.NOT_FOUND


async def test_watch_that_is_not_read_blocks_no_other_call(service: Any) -> None:
    run = await service.begin(total=600)
    slow = service.stub.WatchTraining(pb.WatchTrainingRequest(run_id=run))
    await slow.read()
    assert (await service.done(run)).phase == pb.PHASE_SUCCEEDED
    others = [status async for status in service.stub.WatchTraining(pb.WatchTrainingRequest(run_id=run))]
    assert others[-1].is_done
    slow.cancel()


async def test_cancel_ends_a_running_run_and_keeps_what_it_saved(service: Any) -> None:
    run = await service.begin(total=FOREVER)
    await service.until(run, lambda status: status.HasField("latest_checkpoint"))
    await service.stub.CancelTraining(pb.CancelTrainingRequest(run_id=run))
    status = await service.done(run)
    assert status.phase == pb.PHASE_CANCELLED
    assert service.files.exists(status.last_checkpoint_path)
    assert status.latest_checkpoint.timesteps == status.timesteps_done
    again = await service.stub.CancelTraining(pb.CancelTrainingRequest(run_id=run))
    assert again.phase == pb.PHASE_CANCELLED


@pytest.mark.local("where there is a place for a trainer is the cluster's to decide")
async def test_cancel_of_a_waiting_run_takes_effect_at_once(service: Any) -> None:
    for _ in range(2):
        await service.begin(total=FOREVER)
    run = await service.begin()
    status = await service.stub.CancelTraining(pb.CancelTrainingRequest(run_id=run))
    assert (status.phase, status.is_done) == (pb.PHASE_CANCELLED, True)


async def test_cancel_right_after_the_start_ends_the_run(service: Any) -> None:
    run = await service.begin(total=FOREVER)
    await service.stub.CancelTraining(pb.CancelTrainingRequest(run_id=run))
    assert (await service.done(run)).phase == pb.PHASE_CANCELLED


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("CancelTraining", pb.CancelTrainingRequest),
        ("SuspendTraining", pb.SuspendTrainingRequest),
        ("ResumeTraining", pb.ResumeTrainingRequest),
    ],
)
async def test_a_done_run_does_not_change_any_more(service: Any, method: str, message: Any) -> None:
    run = await service.begin()
    before = await service.done(run)
    refusal = await service.refused(getattr(service.stub, method)(message(run_id=run)))
    assert refusal.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert await service.status(run) == before


async def test_suspended_run_continues_from_its_checkpoint_when_resumed(service: Any) -> None:
    run = await service.begin(total=FOREVER)
    await service.training(run)
    await service.stub.SuspendTraining(pb.SuspendTrainingRequest(run_id=run))
    paused = await service.until(run, lambda status: status.phase == pb.PHASE_SUSPENDED)
    assert paused.latest_checkpoint.timesteps == paused.timesteps_done > 0
    assert paused.fps == 0
    again = await service.stub.SuspendTraining(pb.SuspendTrainingRequest(run_id=run))
    assert again.phase == pb.PHASE_SUSPENDED
    for _ in range(2):
        await service.stub.ResumeTraining(pb.ResumeTrainingRequest(run_id=run))
    resumed = await service.until(run, lambda status: status.timesteps_done > paused.timesteps_done)
    assert resumed.resumed_from == paused.latest_checkpoint
    assert (resumed.restarts, resumed.timesteps_lost) == (0, 0)


@pytest.mark.local("where there is a place for a trainer is the cluster's to decide")
async def test_suspended_run_frees_its_place(service: Any) -> None:
    first = [await service.begin(total=FOREVER) for _ in range(2)]
    third = await service.begin()
    await service.stub.SuspendTraining(pb.SuspendTrainingRequest(run_id=first[0]))
    assert (await service.done(third)).phase == pb.PHASE_SUCCEEDED
    assert (await service.status(first[0])).phase == pb.PHASE_SUSPENDED


@pytest.mark.local("where there is a place for a trainer is the cluster's to decide")
async def test_suspend_of_a_waiting_run_takes_effect_at_once(service: Any) -> None:
    first = [await service.begin(total=FOREVER) for _ in range(2)]
    run = await service.begin()
    status = await service.stub.SuspendTraining(pb.SuspendTrainingRequest(run_id=run))
    assert status.phase == pb.PHASE_SUSPENDED
    status = await service.stub.ResumeTraining(pb.ResumeTrainingRequest(run_id=run))
    assert status.phase == pb.PHASE_PENDING
    await service.stub.CancelTraining(pb.CancelTrainingRequest(run_id=first[0]))
    assert (await service.done(run)).phase == pb.PHASE_SUCCEEDED


async def test_suspend_and_resume_at_once_continues_the_run(service: Any) -> None:
    run = await service.begin(total=400)
    await service.training(run)
    await service.stub.SuspendTraining(pb.SuspendTrainingRequest(run_id=run))
    await service.stub.ResumeTraining(pb.ResumeTrainingRequest(run_id=run))
    assert (await service.done(run)).phase == pb.PHASE_SUCCEEDED


async def test_cancel_of_a_suspended_run_ends_it(service: Any) -> None:
    run = await service.begin(total=FOREVER)
    await service.stub.SuspendTraining(pb.SuspendTrainingRequest(run_id=run))
    await service.until(run, lambda status: status.phase == pb.PHASE_SUSPENDED)
    await service.stub.CancelTraining(pb.CancelTrainingRequest(run_id=run))
    assert (await service.done(run)).phase == pb.PHASE_CANCELLED


async def test_cancel_while_a_run_is_being_suspended_wins(service: Any) -> None:
    run = await service.begin(total=FOREVER)
    await service.training(run)
    await asyncio.gather(
        service.stub.SuspendTraining(pb.SuspendTrainingRequest(run_id=run)),
        service.stub.CancelTraining(pb.CancelTrainingRequest(run_id=run)),
    )
    assert (await service.done(run)).phase == pb.PHASE_CANCELLED


async def test_crashed_run_restarts_from_its_checkpoint_and_is_counted(service: Any) -> None:
    run = await service.begin("crash", "train", checkpoint_every_timesteps=1000)
    status = await service.done(run)
    assert (status.phase, status.restarts, status.timesteps_done) == (pb.PHASE_SUCCEEDED, 1, 100)
    assert status.timesteps_lost == 20  # nothing was saved before the crash


async def test_permanent_failure_ends_the_run_at_once_and_affects_no_other(service: Any) -> None:
    other = await service.begin(total=FOREVER)
    await service.training(other)
    run = await service.begin("permanent")
    status = await service.done(run)
    assert (status.phase, status.restarts) == (pb.PHASE_FAILED, 0)
    assert status.failure == pb.Failure(reason="UnsuitableSpace", message="no attempt can succeed")
    assert (await service.status(other)).phase == pb.PHASE_RUNNING


async def test_list_is_newest_first_filtered_and_paged(service: Any) -> None:
    runs = [await service.begin() for _ in range(3)]
    other = (await service.stub.StartTrainingPPO(pb.TrainingRequest(experiment_id="rover", total_timesteps=20))).run_id
    for run in (*runs, other):
        await service.done(run)

    async def listed(**fields: Any) -> tuple[list[str], str]:
        response = await service.stub.ListTrainingRuns(pb.ListTrainingRunsRequest(**fields))
        return [run.run_id for run in response.runs], response.next_page_token

    created = {run: (await service.status(run)).create_time.ToNanoseconds() for run in (*runs, other)}
    newest_first = sorted(created, key=lambda run: (created[run], run), reverse=True)
    assert await listed() == (newest_first, "")
    assert (await listed(experiment_id="rover"))[0] == [other]
    assert (await listed(phases=[pb.PHASE_RUNNING]))[0] == []
    page, token = await listed(page_size=3)
    assert page == newest_first[:3]
    assert await listed(page_size=3, page_token=token) == (newest_first[3:], "")


@pytest.mark.parametrize(
    ("fields", "field"),
    [({"page_size": 1001}, "page_size"), ({"page_token": "nonsense"}, "page_token"), ({"phases": [0]}, "phases")],
)
async def test_list_refuses_a_bad_field_by_name(service: Any, fields: dict[str, Any], field: str) -> None:
    refusal = await service.refused(service.stub.ListTrainingRuns(pb.ListTrainingRunsRequest(**fields)))
    assert refusal.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert set(violations(refusal)) == {field}


async def test_act_without_policies_explains_itself(service: Any) -> None:
    run = await service.begin()
    refusal = await service.refused(service.stub.Act(pb.ActRequest(run_id=run)))
    assert refusal.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "INFERENCE_ADDRESS" in refusal.details()
    refusal = await service.refused(service.stub.Act(pb.ActRequest(run_id="nobody")))
    assert refusal.code() is grpc.StatusCode.NOT_FOUND

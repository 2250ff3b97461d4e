"""A client of the service: start a run, watch it, use its policy, cancel a run."""

import os

import grpc
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1 import policy_trainer_pb2_grpc as rpc

# For tests/integration/test_examples.py: it needs a service, and its output matches these lines.
E2E_SERVICE = True
E2E_OUTPUT = [r"PHASE_SUCCEEDED 2\d{3} ", r"action: [01] of model sha256:", r"PHASE_CANCELLED"]

NO_PROXY = [("grpc.enable_http_proxy", 0)]  # gRPC would dial through the proxy of http_proxy, to 127.0.0.1 too
CARTPOLE = pb.Environment(gymnasium=pb.GymnasiumEnvironment(id="CartPole-v1"))


def main() -> None:
    address = os.environ.get("AISANDBOX_ADDRESS", "127.0.0.1:50051")
    with grpc.insecure_channel(address, NO_PROXY) as channel:
        trainer = rpc.PolicyTrainerServiceStub(channel)

        # Start. A request_id would make a repeated call return the same run.
        request = pb.TrainingRequest(
            experiment_id="example",
            total_timesteps=2_000,
            seed=1,
            hyperparameters={"learning_rate": "lin_3e-4", "n_steps": "256"},
            environment=CARTPOLE,
        )
        run = trainer.StartTrainingPPO(request).run_id

        # Watch: one status after every change, until the run is done.
        for status in trainer.WatchTraining(pb.WatchTrainingRequest(run_id=run)):
            reward = status.episode_reward_mean if status.HasField("episode_reward_mean") else "-"
            print(pb.Phase.Name(status.phase), status.timesteps_done, reward)

        # Act: one observation, one action.
        answer = trainer.Act(pb.ActRequest(run_id=run, observation=[0.01, 0.02, 0.03, 0.04]))
        print("action:", int(answer.action[0]), "of model", answer.model)

        # Cancel: the trainer stops after the call; the last status says that it has.
        request.total_timesteps = 10_000_000
        run = trainer.StartTrainingPPO(request).run_id
        trainer.CancelTraining(pb.CancelTrainingRequest(run_id=run))
        *_, last = trainer.WatchTraining(pb.WatchTrainingRequest(run_id=run))
        print(run, pb.Phase.Name(last.phase))


if __name__ == "__main__":
    main()

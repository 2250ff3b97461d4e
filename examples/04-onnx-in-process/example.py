"""A policy as an ONNX file, run in this process."""

import os
import sys

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before ONNX Runtime is imported: it sends events to its maker

import grpc
import numpy as np
import onnxruntime
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1 import policy_trainer_pb2_grpc as rpc

# For tests/integration/test_examples.py: it needs a service and a finished run.
E2E_SERVICE = True
E2E_BEFORE = ["aisandbox train ppo --gymnasium CartPole-v1 -t 256 -p n_steps=64"]
E2E_OUTPUT = [r"in this process: [01]$", r"the same actions: True"]


NO_PROXY = [("grpc.enable_http_proxy", 0)]  # gRPC would dial through the proxy of http_proxy, to 127.0.0.1 too


def download(trainer: rpc.PolicyTrainerServiceStub, run: str) -> bytes:
    """The policy of a run as an ONNX file."""
    return b"".join(response.part for response in trainer.GetModel(pb.GetModelRequest(run_id=run, model="final")))


def newest_finished_run(trainer: rpc.PolicyTrainerServiceStub) -> str:
    """The id of the newest run that succeeded."""
    finished = pb.ListTrainingRunsRequest(phases=[pb.PHASE_SUCCEEDED], page_size=1)
    for status in trainer.ListTrainingRuns(finished).runs:
        return status.run_id
    sys.exit("no run has finished; start one with: aisandbox train ppo --gymnasium CartPole-v1")


def act_in_one_episode(policy: onnxruntime.InferenceSession, observations: np.ndarray) -> list[np.ndarray]:
    """The actions for the observations of an episode, [steps, 1, *shape]."""
    # A recurrent policy (RecurrentPPO) has its state as inputs and outputs: "next_state_h" is the next "state_h".
    states = [value for value in policy.get_inputs() if value.name.startswith("state_")]
    state = {value.name: np.zeros([1, *value.shape[1:]], np.float32) for value in states}
    actions = []
    for step, observation in enumerate(observations):
        feed = {"observation": observation, **state}
        if states:
            feed["episode_start"] = np.array([step == 0], np.float32)
        action, *following = policy.run(["action", *(f"next_{name}" for name in state)], feed)
        state = dict(zip(state, following, strict=True))
        actions.append(action[0])
    return actions


def main() -> None:
    address = os.environ.get("AISANDBOX_ADDRESS", "127.0.0.1:50051")
    with grpc.insecure_channel(address, NO_PROXY) as channel:
        trainer = rpc.PolicyTrainerServiceStub(channel)
        run = sys.argv[1] if len(sys.argv) > 1 else newest_finished_run(trainer)

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only: it warns that the input `noise` has a default, which is intended
        policy = onnxruntime.InferenceSession(download(trainer, run), options)
        inputs = {value.name: value for value in policy.get_inputs()}
        if "observation" not in inputs or inputs["observation"].type != "tensor(float)":
            sys.exit(f"run {run}: this example needs a policy whose observation is one float32 array")

        # One observation as a batch of one; for CartPole-v1 float32 [1, 4].
        shape = inputs["observation"].shape[1:]
        observations = np.random.default_rng(0).normal(0, 0.1, [20, 1, *shape]).astype(np.float32)
        here = act_in_one_episode(policy, observations)
        print("action in this process:", here[0])

        # The service answers with the same file. The state is empty, unless the policy is recurrent.
        there, state = [], b""
        for step, observation in enumerate(observations):
            request = pb.ActRequest(run_id=run, model="final", observation=observation.ravel())
            request.state, request.episode_start = state, step == 0
            response = trainer.Act(request)
            there.append(np.array(response.action))
            state = response.state
        print("the same actions:", np.allclose(np.array(here).reshape(20, -1), np.array(there), atol=1e-5))


if __name__ == "__main__":
    main()

"""A policy as an ONNX file, run in this process."""

import os

import grpc
import numpy as np
import onnxruntime
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1 import policy_trainer_pb2_grpc as rpc

# For tests/integration/test_examples.py: it needs a service and a finished run of CartPole-v1.
E2E_SERVICE = True
E2E_BEFORE = ["aisandbox train ppo --gymnasium CartPole-v1 -t 256 -p n_steps=64"]
E2E_OUTPUT = [r"in this process: [01]$", r"the same actions: True"]


def download(trainer: rpc.PolicyTrainerServiceStub, run: str) -> bytes:
    """The policy of a run as an ONNX file."""
    return b"".join(response.part for response in trainer.GetModel(pb.GetModelRequest(run_id=run, model="final")))


def main() -> None:
    with grpc.insecure_channel(os.environ.get("AISANDBOX_ADDRESS", "127.0.0.1:50051")) as channel:
        trainer = rpc.PolicyTrainerServiceStub(channel)
        finished = pb.ListTrainingRunsRequest(phases=[pb.PHASE_SUCCEEDED], page_size=1)
        run = trainer.ListTrainingRuns(finished).runs[0].run_id
        policy = onnxruntime.InferenceSession(download(trainer, run))

        # One observation as a batch of one: float32 [1, 4].
        observation = np.array([[0.01, 0.02, 0.03, 0.04]], dtype=np.float32)
        print("action in this process:", policy.run(["action"], {"observation": observation})[0][0])

        # The service answers with the same file.
        observations = np.random.default_rng(0).normal(0, 0.1, (20, 4)).astype(np.float32)
        here = policy.run(["action"], {"observation": observations})[0].tolist()
        there = [
            int(trainer.Act(pb.ActRequest(run_id=run, model="final", observation=row)).action[0])
            for row in observations
        ]
        print("the same actions:", here == there)


if __name__ == "__main__":
    main()

"""A policy in a C# process (AISandbox.Policy) beside ONNX Runtime alone with memory that is bound once.

    python bench/policy_in_process.py

Prints the times of single calls, for one observation and for 64, and then BenchmarkDotNet's table with the bytes that
a call allocates. Needs the .NET SDK.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import gymnasium
from aisandbox_trainer.export.model_files import export_model
from stable_baselines3 import PPO

PROJECT = Path(__file__).parents[1] / "clients" / "dotnet" / "bench" / "AISandbox.Policy.Benchmarks"


def main() -> int:
    if shutil.which("dotnet") is None:
        print("skipped: there is no dotnet (the .NET 10 SDK) on the PATH")
        return 0
    environment = gymnasium.make("Pendulum-v1")
    model = PPO("MlpPolicy", environment, seed=1, device="cpu")  # two layers of 64
    files = export_model(
        model,
        observation_space=environment.observation_space,
        action_space=environment.action_space,
        vec_normalize=None,
        timesteps=0,
    )
    with tempfile.TemporaryDirectory() as folder:
        policy = Path(folder) / "policy.onnx"
        policy.write_bytes(files["policy.onnx"])
        command = ["dotnet", "run", "--project", str(PROJECT), "--configuration", "Release", "--", str(policy)]
        return subprocess.run(command, cwd=PROJECT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

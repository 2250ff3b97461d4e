"""Trains one run with stable-baselines3: from its spec to checkpoints, models and an exit code.

It is started as a process, ``python -m aisandbox_trainer run`` (see ``--help``), with its settings in environment
variables; there is nothing to import. The packages below are internal. Their order, in which each may import only the
ones after it:

1. ``warm``: processes that start attempts with everything imported
2. ``run``: one attempt as a process, its exit status
3. ``training``: the training loop, evaluation, publishing
4. ``export``, ``checkpoints``, ``environments``: ONNX files; saving and restoring; VecEnvs
5. ``algorithms``: SB3's algorithms from hyperparameters
6. ``fast_updates``: the updates of PPO, MaskablePPO, A2C, DQN, SAC, TD3 and TQC in less time
7. ``runtime``: settings, the request to stop, progress
"""

__all__: list[str] = []

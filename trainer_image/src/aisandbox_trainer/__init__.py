"""Trains one run with stable-baselines3: from its spec to checkpoints, models and an exit code."""

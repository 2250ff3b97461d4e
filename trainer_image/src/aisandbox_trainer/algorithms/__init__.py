"""Stable-baselines3 algorithms from hyperparameters: class, policy, device, checks. Must not know environments."""

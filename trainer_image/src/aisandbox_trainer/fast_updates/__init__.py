"""Updates of PPO, A2C and DQN that compute the numbers of stable-baselines3 in less time. Must not know runs."""

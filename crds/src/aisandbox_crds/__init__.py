"""The TrainingRun: its spec, status, hyperparameters, names and the contract of starting and ending a trainer."""

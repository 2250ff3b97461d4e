"""The operator: has every TrainingRun of a namespace trained by a Job, and writes down what became of it."""

"""A process that has imported everything and forks attempts, so that a run starts in a fraction of a second."""

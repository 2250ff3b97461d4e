"""Attempts forked from a process that has imported everything, so that a run starts in a fraction of a second."""

"""One attempt at a run as a process: its order of steps, its exit status, its termination message."""

"""The training loop and what it does between updates: evaluate, save, publish, stop, recover."""

"""Both ends of EnvironmentService in Python: what trains against a simulator, and what serves one."""

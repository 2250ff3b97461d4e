"""How a process of the project begins: it reads its settings, sets up its log and gRPC's native core.

Must not know what any process is for.
"""

"""The operator: trains every TrainingRun of a namespace by a Job, and writes its status.

It is a program, ``python -m aisandbox_operator``, and no package imports it: all of its modules are internal.
"""

__all__: list[str] = []

"""The rules for a run: each is a function from the observed state to a decision, or None where it does not apply.

The first that decides wins (:data:`aisandbox_operator.plan.RULES`). None of them knows the cluster or the clock.
Each module's docstring names the fields of the spec, or the settings, that it serves.
"""

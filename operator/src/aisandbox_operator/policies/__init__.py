"""The rules by which a run is led: each a function from a situation to a decision, or None where it has no say.

The first that decides wins (:data:`aisandbox_operator.plan.POLICIES`). None of them knows the cluster or the clock.
"""

"""Behaviour cloning: a policy learns from recorded episodes, before the first step of its run."""

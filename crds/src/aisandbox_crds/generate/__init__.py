"""What is generated from the tables of fields: the resource's schema and the pages of docs/ for users.

``python -m aisandbox_crds.generate`` writes crds/trainingrun.yaml, the tables of docs/trainingrun.md,
docs/hyperparameters.md and the records of hyperparameters of the C# client; with ``--check`` it says
whether they are current. No process imports this folder.
"""

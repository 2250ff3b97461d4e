"""The lessons of a run: which parameters its episodes get, by progress. Must not know algorithms or checkpoints."""

"""What a checkpoint holds, and how a model is saved and restored exactly. Must not know when to save."""

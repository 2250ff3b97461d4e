"""A trained policy as the files of a published model: ONNX graph, metadata, golden examples. Must not know training."""

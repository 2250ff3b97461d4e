"""The wire contract in NumPy's terms: tensors and spaces of tensor.proto."""

"""The environments a model is trained on, in this process or over gRPC, as VecEnvs. Must not know algorithms."""

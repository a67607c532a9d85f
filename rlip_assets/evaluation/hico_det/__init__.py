"""HICO-DET: the evaluator of every protocol, and the known-object setting."""

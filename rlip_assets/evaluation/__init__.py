"""The benchmarks: predictions as Parquet, one evaluator a protocol, per-class results, the standing of figures.

NumPy and PyArrow only: nothing here imports torch, transformers or pandas, so that evaluation can run in every epoch.
"""

"""Evaluation of predictions on the benchmarks: file formats, one evaluator per protocol, results by class, published figures.

NumPy, SciPy and PyArrow only: nothing here imports torch, transformers or pandas, so that evaluation can run in every epoch.
"""

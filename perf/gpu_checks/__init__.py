"""The checks of `perf/gpu.py`: each module holds checks that yield rows, as soon as each row is measured.

* `right.py`: kernels and network against references of higher precision and recorded outputs.
* `kernel.py`: deformable attention alone. `network.py`: forward passes. `training.py`: steps. `labels.py`: captions and tagging.
* `memory.py`: what happens where memory is too small.
* `device.py`, `forms.py`, `cases.py`, `parts.py`, `steps.py`: timing, the forms that are compared, inputs, hooks, a training step.
* `run.py`, `record.py`, `deadline.py`, `goals.py`, `markdown.py`: the run, what it keeps, when it stops, its goals, its tables.
"""

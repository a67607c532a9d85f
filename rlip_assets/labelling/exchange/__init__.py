"""Labels exchanged with other programs.

* `vg_form.py`: the json of the published pre-training, read and written row by row.
* `label_transfer.py`: the commands `rlip labels export` and `rlip labels import`.
"""

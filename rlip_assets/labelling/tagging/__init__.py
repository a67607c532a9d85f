"""Pseudo labels: relation candidates scored by the R-Tagger.

* `tagging.py`: the network's part.
* `rules.py`: deduplication, thresholds, top-K and overlap as pure functions.
* `changes.py`: what a run changed against the last labels.
* `stage.py`: the stage `pseudo_labels`.
"""

from rlip_assets.labelling.tagging.stage import tagging_stage

__all__ = ["tagging_stage"]

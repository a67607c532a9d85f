"""Pseudo labels: relation candidates scored by the R-Tagger or another relation source.

* `candidate_tagger.py`: the R-Tagger.
* `pair_judge.py`: the interface of sources that look at one pair, and an image-text-to-text model as one.
* `filters.py`: deduplication, thresholds, top-K and overlap as pure functions.
* `changes.py`: what a run changed against the last labels.
* `stage.py`: the stage `pseudo_labels`.
"""

from rlip_assets.labelling.tagging.stage import tagging_stage

__all__ = ["tagging_stage"]

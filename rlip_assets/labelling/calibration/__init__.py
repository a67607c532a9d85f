"""Calibration of confidences: of the labels with confidence 0.8, eight of ten are right.

* `curves.py`: the maps from the tagger's scores to shares of right labels, how they are fitted, and the expected calibration error.
* `stage.py`: the stage `calibration`, which fits one on human triplets that the R-Tagger was not trained on.
"""

"""The starting weights that the micro profile ships: a captioner, a box detector and a text encoder.

The published pipeline starts from BLIP, from a detector trained on COCO and Objects365 boxes, and from RoBERTa. The micro world cannot
use those, so it brings small ones of its own, trained on streams of the generator that no stage of the lineage sees.
`make external-weights` makes all three again; `README.md` beside this file says how they were trained and how well they do.

* `text_encoder.py`: a micro `RobertaModel` whose pooled vectors bring paraphrases together. `paraphrases.py`: the phrases it learns from.
* `detector.py`: a micro DAB-Deformable-DETR. `detection_data.py`: its images. `dense_head.py`: the auxiliary loss that speeds it up.
* `captioner.py`: a micro BLIP.
* `record.py`: the record of a training. `average_precision.py`: the detector's held-out figure.
"""

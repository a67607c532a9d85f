"""The starting weights that the micro profile ships: a captioner, a box detector and a text encoder.

The published pipeline starts from BLIP, from a detector trained on COCO and Objects365 boxes, and from RoBERTa, which know nothing of
the micro world. These small networks stand in for them; they are trained on streams of the generator that no stage of the lineage sees.
`make external-weights` makes all three again; `README.md` beside this file says how they were trained and how well they do.

* `train_text_encoder.py`: a micro `RobertaModel` whose pooled vectors bring paraphrases together, on `phrase_corpus.py`.
* `train_detector.py`: a micro DAB-Deformable-DETR on `detection_data.py`, with the auxiliary loss of `dense_head.py`.
* `train_captioner.py`: a micro BLIP on `captioned_scenes.py`.
* `fit.py`: the training loop; `stream.py`: scenes from worker processes; `record.py`: the record of a training;
  `detector_quality.py`, `caption_quality.py`: held-out figures.
"""

"""Captioning: N captions per image with a BLIP captioner, the image encoded once.

* `random_streams.py`: random numbers by (seed, image, caption, token).
* `decoding.py`: nucleus sampling of many captions from one encoding; beam search.
* `captioner.py`: images in, captions out.
* `stage.py`: the stage `captions`.
"""

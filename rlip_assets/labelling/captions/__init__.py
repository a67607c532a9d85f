"""Captioning: N captions per image, with BLIP as published or any image-text-to-text model of transformers.

* `random_streams.py`: random numbers by (seed, image, caption, token).
* `decoding.py`: nucleus sampling of many captions from one encoding; beam search.
* `captioner.py`: BLIP, the image encoded once.
* `image_text_captioner.py`: all other families, by instruction.
* `stage.py`: the stage `captions`.
"""

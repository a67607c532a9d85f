"""Captions to (subject, relation, object) text triplets.

* `elements.py`: words to entities, actions and prepositions.
* `parser.py`: elements to triplets, the built-in parser.
* `spacy_parser.py`: triplets from a spaCy dependency parse, an extra.
* `json_answers.py`: triplets that an instructed captioner gives as JSON.
* `stage.py`: the stage `caption_triplets`.
"""

from rlip_assets.labelling.caption_parsing.parser import TextTriplet, parse_caption
from rlip_assets.labelling.caption_parsing.stage import parse_stage

__all__ = ["TextTriplet", "parse_caption", "parse_stage"]

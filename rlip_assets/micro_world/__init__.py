"""The micro world: procedural scenes drawn with emoji sprites, written in the official raw layouts of six datasets.

Read it in this order:

* `world.py` (and `world.toml`) categories and events; `wording.py` nouns and verb forms; `vocabularies.py` names in each dataset.
* `relation_drawing/` relations; `near_misses.py` what looks alike without a relation; `scene_generator.py` whole pictures.
* `plans.py` and `shots.py` the plan of each picture; `render.py` pixels; `captions.py` sentences and training corpora.
* `writers/` one module per dataset; `truth.py` the true relations; `simulated_captions.py` captions from them; `stage.py` the stage.
"""

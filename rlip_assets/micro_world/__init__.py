"""The micro world: procedural scenes drawn with emoji sprites, written in the official raw layouts of six datasets.

Read it in this order:

* `world.py` what there is and what can happen; `wording.py` how people put it; `vocabularies.py` what each dataset calls it.
* `relation_drawing/` how each relation is drawn; `near_misses.py` what looks alike and is none; `scene_generator.py` whole pictures.
* `plans.py` and `shots.py` which picture shows what; `render.py` pixels; `captions.py` sentences and training corpora.
* `writers/` one module a dataset; `truth.py` the hidden relations; `stage.py` the stage.
"""

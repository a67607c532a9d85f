"""Training of the R-Tagger, relational pre-training and fine-tuning: one loop, driven by recipes.

* `recipes/`: the named recipes, one file each; `rlip_assets.lineage.recipes` says what a recipe is.
* `transforms.py`: augmentations of an image together with its scene.
* `vocabulary.py`: the label list of a step. `few_shot.py`: few-shot and zero-shot subsets.
* `sources.py`: the training images of a recipe. `batches.py`: the batch of a step, a function of seed and step alone.
* `targets.py`: scenes as the tensors that the criterion compares with.
* `optimiser.py`, `loop.py`, `resume.py`: the optimisation. `predict.py`: the predictions of a test split.
* `stages.py`: the stages of the lineage made of these.
"""

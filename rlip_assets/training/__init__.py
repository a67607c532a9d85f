"""Training of the R-Tagger, relational pre-training and fine-tuning: one loop, driven by recipes.

* `recipes/`: the named recipes, one file each; `rlip_assets.lineage.recipes` defines their fields.
* `training_images.py`, `few_shot.py`: the images that a recipe trains on. `transforms.py`: augmentations of image and boxes.
* `label_lists.py`, `targets.py`, `batches.py`: the texts, targets and batch of a step, functions of seed and step alone.
* `start.py`: the initial network. `optimiser.py`, `loop.py`, `processes.py`, `memory.py`, `resume.py`, `retained.py`: the optimisation.
* `validation.py`, `benchmark_evaluation.py`, `benchmark_predictions.py`: figures and predictions.
* `run_data.py`, `run.py`, `stage.py`: the stages of the lineage made of these.
* `micro_batches.py`: inference in parts that fit in memory, for captions and pseudo labels.
"""

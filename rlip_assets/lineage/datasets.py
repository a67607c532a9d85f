"""The datasets of the method, by the roles that they play in it."""

DATASETS = ("visual_genome", "coco", "objects365", "open_images", "hico_det", "v_coco")
DETECTION_DATASETS = ("coco", "objects365")
"""The method's datasets with boxes but no relations: they receive pseudo labels, as a profile's own datasets do."""
HUMAN_DATASET = "visual_genome"
"""The dataset whose human triplets are trained on."""
BENCHMARKS = ("hico_det", "open_images", "v_coco")
"""Datasets whose test split is judged on."""
PERSON_BENCHMARKS = ("hico_det", "v_coco")
"""Benchmarks whose subjects are all persons; in the others a subject has a class of its own."""
ZERO_SHOT_BENCHMARK = "hico_det"
HUMAN_EXCLUSIONS = f"decontamination/{HUMAN_DATASET}"
"""Name of the input that lists images of `HUMAN_DATASET` which occur in a test split."""

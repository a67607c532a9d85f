"""Numbers of images, boxes and relations that the official annotation files list.

COCO: cocodataset.org. Objects365 v2: the release lists three images that are not in it. Visual Genome 1.2 and later: its paper and the
counts that the published cleaning prints. HICO-DET in HOIA form: the whole split, or its images with usable pairs. V-COCO: its paper.
Open Images v6 scene graphs: the data card of PySGG.
"""

from __future__ import annotations

IMAGES: dict[tuple[str, str], tuple[int, ...]] = {
    ("coco", "train"): (118_287,),
    ("coco", "val"): (5_000,),
    ("objects365", "train"): (1_742_289, 1_742_292),
    ("objects365", "val"): (80_000,),
    ("visual_genome", "train"): (108_077,),
    ("hico_det", "train"): (37_633, 38_118),
    ("hico_det", "test"): (9_546, 9_658),
    ("v_coco", "train"): (5_400,),
    ("v_coco", "test"): (4_946,),
    ("open_images", "train"): (126_368,),
    ("open_images", "val"): (1_813,),
    ("open_images", "test"): (5_322,),
}
"""(dataset, split) -> official numbers of images."""

ANNOTATIONS: dict[tuple[str, str], int] = {
    ("coco", "train boxes"): 860_001,
    ("coco", "val boxes"): 36_781,
    ("visual_genome", "train boxes"): 3_802_374,
    ("visual_genome", "train relations"): 2_316_104,
    ("hico_det", "train relations"): 117_871,
    ("hico_det", "test relations"): 33_405,
    ("coco", "categories"): 80,
    ("objects365", "categories"): 365,
    ("open_images", "object names"): 601,
    ("open_images", "relation names"): 30,
}
"""(dataset, what is counted, of which split) -> official number of rows."""

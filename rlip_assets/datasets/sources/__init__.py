"""Raw datasets in their official layouts, read as a stream into scene tables.

* `readers.py`: what a reader is; one module a dataset implements it.
* `json_stream.py`, `record_index.py`: annotation files of any size, split once into one file of records a bucket.
* `classes.py`: class names, interactions and splits; official tables lie in `rlip_assets/datasets/sources/class_tables`.
* `manifests.py`, `stage.py`: what is versioned of a raw dataset, and the two stages.
* `coco_style.py`, `open_images_boxes.py`: any detection dataset to label.
"""

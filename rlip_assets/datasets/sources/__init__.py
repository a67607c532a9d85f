"""Raw datasets in their official layouts, read as a stream into scene tables.

* `readers.py`: the interface of all readers; one module per dataset implements it.
* `rows.py`: the check of every row at the door; `boxes.py`: the rules for its boxes; `layouts.py`: where its image lies.
* `json_stream.py`, `record_index.py`: annotation files of any size, split once into one file of records per bucket.
* `classes.py`: class names, interactions and splits; official tables lie in `rlip_assets/datasets/sources/class_tables`.
* `manifests.py`, `stage.py`: the versioned list of files, and the two stages.
* `coco_style.py`, `open_images_boxes.py`: any detection dataset to label.
"""

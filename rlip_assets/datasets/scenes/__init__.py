"""Scene tables: one row per image, with its boxes, class names and relation triplets.

* `scene.py`: the row (`Scene`), its content hash and its bucket.
* `tables.py`: Parquet parts on disk, the artifact that is versioned and exchanged.
* `store.py`: the memory-mapped form that training reads, derived from Parquet and never versioned.
"""

from rlip_assets.datasets.scenes.scene import NO_OBJECT, Scene, bucket_of, check_scene, make_scene, scene_hash
from rlip_assets.datasets.scenes.store import SceneStore
from rlip_assets.datasets.scenes.tables import (
    SCENE_SCHEMA,
    SceneWriter,
    bucket_folders,
    count_scenes,
    finish_table,
    part_files,
    read_part,
    read_scenes,
    table_digest,
    write_part,
    write_scenes,
)

__all__ = [
    "NO_OBJECT",
    "SCENE_SCHEMA",
    "Scene",
    "SceneStore",
    "SceneWriter",
    "bucket_folders",
    "bucket_of",
    "check_scene",
    "count_scenes",
    "finish_table",
    "make_scene",
    "part_files",
    "read_part",
    "read_scenes",
    "scene_hash",
    "table_digest",
    "write_part",
    "write_scenes",
]

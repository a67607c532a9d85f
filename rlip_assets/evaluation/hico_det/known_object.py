"""Image-level labels for the Known-Object setting of HICO-DET.

The setting shows each class only the images that are labelled as containing its object. These labels are those of HICO's
*classification* annotation (an image is positive for an object if it is positive for any interaction with it). They cannot be
made from the boxes: an image whose only instance was marked invisible has the label and no box.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rlip_assets.evaluation.core.ground_truth import GroundTruth
from rlip_assets.evaluation.core.image_names import ImageNames
from rlip_assets.evaluation.core.vocabulary import Vocabulary
from rlip_assets.evaluation.formats.json_values import WHOLE, read_json, values
from rlip_assets.storage.errors import DataError


@dataclass(frozen=True)
class KnownObjects:
    """Image id to the labels of the objects that the image is known to show, and the file that says so."""

    objects: dict[str, tuple[int, ...]]
    source: str = "the image labels"

    def table(self, truth: GroundTruth, num_objects: int) -> npt.NDArray[np.bool_]:
        """(N, O + 1) whether an image shows an object.

        Raises:
            DataError: an image of the benchmark without labels.
        """
        table = np.zeros((len(truth), num_objects + 1), bool)
        for image, image_id in enumerate(truth.image_ids):
            if image_id not in self.objects:
                raise DataError(
                    f"{self.source} lacks image {image_id!r}; the Known-Object setting needs every test image"
                )
            table[image, list(self.objects[image_id])] = True
        return table


def read_known_objects(path: Path, vocabulary: Vocabulary, names: ImageNames) -> KnownObjects:
    """Read image-level labels: a JSON object from image id to the list of its positive interaction classes (0-based ids).

    Raises:
        InputError: no such file, or not JSON.
        DataError: not an object of lists, an image given twice, or an interaction id outside the classes; names the image.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected an object from image id to a list of interaction ids")
    last = len(vocabulary.hois) - 1
    objects: dict[str, tuple[int, ...]] = {}
    for image_id in content:
        where = f"{path}: image {image_id!r}"
        ids = [int(hoi) for hoi in values(content, image_id, WHOLE, str(path))]
        wrong = next((hoi for hoi in ids if not 0 <= hoi <= last), None)
        if wrong is not None:
            raise DataError(f"{where} lists {wrong}; expected interaction ids 0..{last}")
        own = names.find(image_id) or image_id
        if own in objects:
            raise DataError(f"{where} is listed twice; keep one entry per image")
        objects[own] = tuple(sorted({vocabulary.hois[hoi][1] for hoi in ids}))
    return KnownObjects(objects, str(path))

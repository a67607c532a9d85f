"""The content of the official V-COCO results file as JSON or Parquet. Pickles of others are not opened: they can run code.

One record a pair of person and object, as in the official pickle: `image_id`; `person_box` xyxy pixels; `ACTION_agent` a score for
every action; `ACTION_ROLE` x1, y1, x2, y2, score for every action and role. An object box of NaN or 0 stands for "no object", a role
score of NaN for "not detected". JSON is a list of such records (NaN written as null), Parquet a table with these columns, the boxes
as lists of doubles. To make JSON of a pickle that you trust: `json.dump(pickle.load(file), out)` after turning arrays into lists.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from rlip_assets.evaluation.formats.json_values import read_json
from rlip_assets.evaluation.v_coco.actions import Actions
from rlip_assets.evaluation.v_coco.ground_truth import OfficialTruth
from rlip_assets.evaluation.v_coco.official import OfficialDetections
from rlip_assets.storage.errors import DataError, InputError
from rlip_assets.storage.files import atomic_file

PERSON_BOX, IMAGE_ID = "person_box", "image_id"
ROWS = 4096


def agent_keys(actions: Actions) -> list[str]:
    """Name of every action's agent score."""
    return [f"{name}_agent" for name in actions.names]


def role_keys(actions: Actions) -> list[str]:
    """Name of every action and role, in the order of `Actions.role_verbs`."""
    return [f"{actions.names[action]}_{actions.roles[action][place]}" for action, place, _ in actions.role_verbs]


def is_official_content(path: Path) -> bool:
    """Whether a file looks like one of these: by the first record or the columns."""
    if path.suffix == ".json":
        with path.open(errors="replace") as stream:
            return PERSON_BOX in stream.read(4096)
    try:
        return PERSON_BOX in pq.read_schema(path).names
    except (pa.ArrowException, OSError):
        return False


def write_official_content(path: Path, truth: OfficialTruth, detections: OfficialDetections) -> None:
    """Write detections; the form follows from the name, `.json` or `.parquet`."""
    records = _records_of(truth, detections)
    with atomic_file(path) as temporary:
        if path.suffix == ".json":
            with temporary.open("w") as stream:
                stream.write("[\n")
                for row, record in enumerate(records):
                    stream.write(",\n" * bool(row) + json.dumps(record, allow_nan=False))
                stream.write("\n]\n")
        else:
            pq.write_table(pa.Table.from_pylist(list(records), _schema(truth.actions)), temporary)


def read_official_content(path: Path, truth: OfficialTruth) -> OfficialDetections:
    """Read detections of the images of `truth`.

    Image ids are those of the annotations, or the number at the end of their names, as the official ids are.

    Raises:
        InputError: no such file, not whole, or neither JSON nor Parquet.
        DataError: an unknown image, a missing key, a box without 4 numbers and a score, a person box or agent score that is not
            finite, an infinite value anywhere. The message names file and row.
    """
    path = Path(path)
    agents, roles = agent_keys(truth.actions), role_keys(truth.actions)
    numbers = _numbers(truth)
    image, persons, agent_scores, role_entries = [], [], [], []
    for row, record in enumerate(_read_records(path)):
        where = f"{path}, row {row}"
        try:
            image_id = str(record[IMAGE_ID])
            persons.append(_finite(record[PERSON_BOX], 4, PERSON_BOX, where))
            agent_scores.append(_finite([record[key] for key in agents], len(agents), "agent scores", where))
            entries = [_numbers_or_nan(record[key], 5, key, where) for key in roles]
        except KeyError as error:
            raise DataError(f"{where}: no {error}; every record needs all actions and roles") from None
        role_entries.append(np.stack(entries) if entries else np.zeros((0, 5)))
        if image_id not in numbers:
            raise DataError(f"{where}: image {image_id!r} is not in the annotations; predict the test images only")
        image.append(numbers[image_id])
    order = np.argsort(np.array(image, np.int64), kind="stable")
    of_roles = np.array(role_entries, np.float64).reshape(-1, len(roles), 5)[order]
    return OfficialDetections(
        image=np.array(image, np.int64)[order],
        persons=np.array(persons, np.float64).reshape(-1, 4)[order],
        role_boxes=of_roles[..., :4],
        agent_scores=np.array(agent_scores, np.float64).reshape(-1, len(agents))[order],
        role_scores=of_roles[..., 4],
    )


def _read_records(path: Path) -> Iterable[Mapping[str, Any]]:
    if path.suffix == ".json":
        content = read_json(path)
        if not isinstance(content, list) or not all(isinstance(record, dict) for record in content):
            raise InputError(f"{path} is no list of records; write the official results as a JSON list")
        return content
    if path.suffix == ".parquet":
        return _parquet_records(path)
    raise InputError(f"{path}: only .json and .parquet are read; pickles can run code, so convert yours first")


def _parquet_records(path: Path) -> Iterator[Mapping[str, Any]]:
    if not path.is_file():
        raise InputError(f"{path} does not exist; give the official results as .json or .parquet")
    try:
        for batch in pq.ParquetFile(path).iter_batches(ROWS):
            yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} is damaged or truncated ({error}); write it again") from None


def _records_of(truth: OfficialTruth, detections: OfficialDetections) -> Iterator[dict[str, Any]]:
    agents, roles = agent_keys(truth.actions), role_keys(truth.actions)
    boxes = [detections.boxes_of_role(role) for role in range(len(roles))]
    for row, image in enumerate(detections.image):
        record: dict[str, Any] = {
            IMAGE_ID: truth.image_ids[image],
            PERSON_BOX: detections.persons[row].astype(float).tolist(),
        }
        record |= zip(agents, detections.agent_scores[row].astype(float).tolist(), strict=True)
        for role, key in enumerate(roles):
            entry = [*boxes[role][row].astype(float), float(detections.role_scores[row, role])]
            record[key] = [None if np.isnan(value) else float(value) for value in entry]
        yield record


def _schema(actions: Actions) -> pa.Schema:
    fields: list[tuple[str, pa.DataType]] = [(IMAGE_ID, pa.string()), (PERSON_BOX, pa.list_(pa.float64()))]
    fields += [(key, pa.float64()) for key in agent_keys(actions)]
    return pa.schema(fields + [(key, pa.list_(pa.float64())) for key in role_keys(actions)])


def _numbers(truth: OfficialTruth) -> dict[str, int]:
    """Image id, and the number at its end, to the image's place; a number that two images share names neither."""
    ends: dict[str, list[int]] = {}
    for image_id, place in truth.index.items():
        if found := re.search(r"(\d+)(\.\w+)?$", image_id):
            ends.setdefault(str(int(found[1])), []).append(place)
    return {end: places[0] for end, places in ends.items() if len(places) == 1} | truth.index


def _numbers_or_nan(values: Any, count: int, what: str, where: str) -> npt.NDArray[np.float64]:
    try:
        array = np.array([np.nan if value is None else value for value in values], np.float64)
    except (TypeError, ValueError):
        array = np.zeros(0)
    if array.shape != (count,):
        raise DataError(f"{where}: {what} is {values!r}; expected {count} numbers")
    if np.isinf(array).any():
        raise DataError(f"{where}: {what} is infinite; write finite numbers, or NaN for what was not detected")
    return array


def _finite(values: Any, count: int, what: str, where: str) -> npt.NDArray[np.float64]:
    array = _numbers_or_nan(values, count, what, where)
    if np.isnan(array).any():
        raise DataError(f"{where}: {what} must be finite, found {array.tolist()}; drop the record")
    return array

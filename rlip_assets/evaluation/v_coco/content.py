"""The content of the official V-COCO results file as JSON or Parquet. Pickles are not opened: they can run code.

One record per pair of person and object, as in the official pickle: `image_id`; `person_box` xyxy pixels; `ACTION_agent` a score for
every action; `ACTION_ROLE` x1, y1, x2, y2, score for every action and role. An object box of NaN or 0 stands for "no object", a role
score of NaN for "not detected". A record may have the keys of its predicted actions only, as the caches of UPT, PViC, SCG, ADA-CM and
CMMP have: the others then are what those caches say of them, a score of 0 and a box of a tenth of a pixel. JSON is a list of such
records (NaN written as null), Parquet a table with these columns, the boxes as lists of doubles. To make JSON of a pickle that you
trust: `json.dump(pickle.load(file), out)` after turning arrays into lists.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rlip_assets.evaluation.core.image_names import ImageNames
from rlip_assets.evaluation.formats.json_values import BOX, IMAGE_ID, NUMBER, Kind, field, image_id_of, read_json
from rlip_assets.evaluation.formats.predictions import DAMAGED
from rlip_assets.evaluation.v_coco.actions import Actions
from rlip_assets.evaluation.v_coco.ground_truth import OfficialTruth
from rlip_assets.evaluation.v_coco.official import OfficialDetections
from rlip_assets.storage.errors import DataError, InputError
from rlip_assets.storage.files import atomic_file

PERSON_BOX, IMAGE = "person_box", "image_id"
NOT_PREDICTED = (0.0, 0.0, 0.1, 0.1, 0.0)
"""Box and score of an action's role that a record does not name."""
ROWS = 4096
ENTRY = Kind(
    "x1, y1, x2, y2 and a score, each a finite number, null or NaN",
    lambda value: isinstance(value, list) and len(value) == 5 and all(map(_number_or_nan, value)),
)


def _number_or_nan(value: Any) -> bool:
    return value is None or NUMBER.fits(value) or (isinstance(value, float) and math.isnan(value))


def agent_keys(actions: Actions) -> list[str]:
    """Name of every action's agent score."""
    return [f"{name}_agent" for name in actions.names]


def role_keys(actions: Actions) -> list[str]:
    """Name of every action and role, in the order of `Actions.role_verbs`."""
    return [f"{actions.names[action]}_{actions.roles[action][place]}" for action, place, _ in actions.role_verbs]


def is_official_content(path: Path) -> bool:
    """Return whether a file looks like one of these, by its first record or its columns."""
    if path.suffix == ".json":
        with path.open(errors="replace") as stream:
            return PERSON_BOX in stream.read(4096)
    try:
        return PERSON_BOX in pq.read_schema(path).names
    except DAMAGED:
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
    """Read detections of the images of `truth`; how images are found: `ImageNames`.

    Raises:
        InputError: no such file, not whole, or neither JSON nor Parquet.
        DataError: an unknown image, an unknown or no action, a box without 4 numbers and a score, a person box or agent score that is not
            finite, an infinite value anywhere. The message names file, row, field and value.
    """
    path = Path(path)
    agents = {key: place for place, key in enumerate(agent_keys(truth.actions))}
    roles = {key: place for place, key in enumerate(role_keys(truth.actions))}
    names = ImageNames(truth.image_ids)
    image, persons, agent_scores = [], [], []
    places, entries = [np.zeros((2, 0), np.int64)], [np.zeros((0, 5))]
    for row, record in enumerate(_read_records(path)):
        where = f"{path}, row {row}"
        name = image_id_of(field(record, IMAGE, IMAGE_ID, where))
        own = names.find(name)
        if own is None:
            raise DataError(f"{where}: image {name!r} is not in the annotations; predict the test images only")
        image.append(truth.index[own])
        persons.append(field(record, PERSON_BOX, BOX, where))
        actions = record.keys() - {IMAGE, PERSON_BOX}
        unknown = sorted(actions - agents.keys() - roles.keys())
        if unknown or not actions:
            what = f"the action {unknown[0]!r}, which the annotations lack" if unknown else "no action"
            raise DataError(f"{where} has {what}; its keys are such as {', '.join([*agents, *roles][:2])}")
        scores = np.zeros(len(agents))
        for key in actions & agents.keys():
            scores[agents[key]] = field(record, key, NUMBER, where)
        agent_scores.append(scores)
        given = sorted(actions & roles.keys())
        places.append(np.array([[row] * len(given), [roles[key] for key in given]], np.int64))
        found = [[np.nan if value is None else value for value in field(record, key, ENTRY, where)] for key in given]
        entries.append(np.array(found, np.float64).reshape(-1, 5))
    of_roles = np.tile(NOT_PREDICTED, (len(image), len(roles), 1))
    of_roles[tuple(np.concatenate(places, axis=1))] = np.concatenate(entries)
    order = np.argsort(np.array(image, np.int64), kind="stable")
    return OfficialDetections(
        image=np.array(image, np.int64)[order],
        persons=np.array(persons, np.float64).reshape(-1, 4)[order],
        role_boxes=of_roles[order, :, :4],
        agent_scores=np.array(agent_scores, np.float64).reshape(-1, len(agents))[order],
        role_scores=of_roles[order, :, 4],
    )


def _read_records(path: Path) -> Iterable[Mapping[str, Any]]:
    if path.suffix == ".json":
        content = read_json(path)
        if not isinstance(content, list):
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
            for record in batch.to_pylist():
                yield {key: value for key, value in record.items() if value is not None}
    except DAMAGED as error:
        raise InputError(f"{path} is damaged or truncated ({error}); write it again") from None


def _records_of(truth: OfficialTruth, detections: OfficialDetections) -> Iterator[dict[str, Any]]:
    agents, roles = agent_keys(truth.actions), role_keys(truth.actions)
    boxes = [detections.boxes_of_role(role) for role in range(len(roles))]
    for row, image in enumerate(detections.image):
        record: dict[str, Any] = {
            IMAGE: truth.image_ids[image],
            PERSON_BOX: detections.persons[row].astype(float).tolist(),
        }
        record |= zip(agents, detections.agent_scores[row].astype(float).tolist(), strict=True)
        for role, key in enumerate(roles):
            entry = [*boxes[role][row].astype(float), float(detections.role_scores[row, role])]
            record[key] = [None if np.isnan(value) else float(value) for value in entry]
        yield record


def _schema(actions: Actions) -> pa.Schema:
    fields: list[tuple[str, pa.DataType]] = [(IMAGE, pa.string()), (PERSON_BOX, pa.list_(pa.float64()))]
    fields += [(key, pa.float64()) for key in agent_keys(actions)]
    return pa.schema(fields + [(key, pa.list_(pa.float64())) for key in role_keys(actions)])

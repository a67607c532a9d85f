"""A checkpoint as a model that MLflow loads and serves.

The saved folder names this module as its loader, so the model is opened from safetensors and nothing is unpickled.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from threading import Lock
from typing import Any

import mlflow.pyfunc
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import scoring_server

from rlip_assets.inference.relation_detector import RelationDetector, open_checkpoint
from rlip_assets.inference.serving import MAX_BYTES, ServedDetector
from rlip_assets.labelling.tagging.served_tagger import ServedTagger
from rlip_assets.storage.errors import InputError, RlipError
from rlip_assets.storage.outputs import output_folder
from rlip_assets.tracking.models import signature
from rlip_assets.tracking.references import REFERENCE, referred_folder

_LOG = logging.getLogger(__name__)
_ONE_AT_A_TIME = Lock()
_invocations: Callable[..., scoring_server.InvocationsResponse] = scoring_server.invocations


def _bounded_invocations(data: bytes, content_type: str | None, *rest: Any) -> scoring_server.InvocationsResponse:
    """Answer a request as MLflow does, but JSON of a bounded size only, one at a time.

    MLflow parses CSV and Parquet of any size, and answers what it cannot parse with a stack trace.
    """
    status, sentence = 200, ""
    if (content_type or "").partition(";")[0].strip() != scoring_server.CONTENT_TYPE_JSON:
        status, sentence = 415, f"Send {scoring_server.CONTENT_TYPE_JSON}"
    elif len(data) > MAX_BYTES:
        status, sentence = 413, f"The request has more than {MAX_BYTES >> 20} MiB: send fewer or smaller images"
    if status == 200:
        try:
            with _ONE_AT_A_TIME:
                return _invocations(data, content_type, *rest)
        except MlflowException:
            raise
        except Exception:
            _LOG.exception("a request cannot be read")
            status, sentence = 400, "The request cannot be read: send rows as dataframe_records"
    return scoring_server.InvocationsResponse(sentence, status, "text/plain")


class ServedModel:
    """The object that MLflow calls; an error in a request becomes status 400 with its sentence, without a stack trace."""

    def __init__(self, answering: ServedDetector | ServedTagger) -> None:
        self._answering = answering

    def predict(self, rows: pd.DataFrame, params: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Answer the rows of a request; see `ServedDetector.answers` and `ServedTagger.answers`."""
        try:
            return self._answering.answers(rows, params)
        except RlipError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error
        except Exception:
            _LOG.exception("a request failed")
            raise MlflowException("The server failed on this request; its log says why") from None


def _load_pyfunc(data_path: str) -> ServedModel:
    """Open the checkpoint in a saved model, or that which a registered model refers to; MLflow calls this in the process that serves."""
    scoring_server.invocations = _bounded_invocations
    path = Path(data_path)
    with referred_folder(path) if path.name == REFERENCE else nullcontext(path) as folder:
        checkpoint = open_checkpoint(folder)
    if checkpoint.config.tagger:
        return ServedModel(ServedTagger(checkpoint))
    return ServedModel(ServedDetector(RelationDetector.of(checkpoint, folder.name)))


def save_served_model(checkpoint: Path, folder: Path) -> None:
    """Write `checkpoint` as an MLflow model that answers JSON requests; `rlip_assets.inference.serving` shows their form.

    The model runs in an environment that has this project installed: `mlflow models serve -m FOLDER --env-manager local`.

    Raises:
        InputError: `checkpoint` is no checkpoint.
        ParameterError: `folder` is neither new nor made by this function.
    """
    opened = open_checkpoint(checkpoint)
    broken = [path for path in checkpoint.rglob("*") if not path.exists()]
    if broken:
        raise InputError(f"{broken[0]} leads nowhere: restore or remove it")
    with output_folder(folder, "package", [checkpoint]) as target:
        mlflow.pyfunc.save_model(
            str(target),
            loader_module=__name__,
            data_path=str(checkpoint),
            pip_requirements=[],
            signature=signature(opened.config.tagger),
        )

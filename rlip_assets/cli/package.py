"""`rlip package`: a checkpoint as a model that MLflow serves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def package(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint folder.")],
    folder: Annotated[Path, typer.Argument(help="MLflow model to write; new, or made by this command.")],
) -> None:
    """Package a checkpoint so that `mlflow models serve` answers requests with an image (base64) and texts."""
    from rlip_assets.tracking.serving import save_served_model

    save_served_model(checkpoint, folder)
    print(f"wrote {folder}; serve it with `mlflow models serve -m {folder} --env-manager local`")

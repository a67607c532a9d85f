"""Starts: the checkpoint from which a fine-tuning goes on or with which a benchmark is predicted, as text in `params.yaml`.

A start is `pretrain/NAME` or `finetune/NAME`, a training of the same profile, or the path of a checkpoint folder made elsewhere, as
`rlip import-checkpoint` writes it. Either is an input of the stage that uses it, with its digest.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

TRAININGS = ("pretrain", "finetune")
"""Stages whose results a start may name."""


def trained_here(start: str) -> tuple[str, str] | None:
    """Return stage and partition of a start that is a training of the profile; None for a folder made elsewhere."""
    stage, _, name = start.partition("/")
    return (stage, name) if stage in TRAININGS else None


def model_folder(stage: str, name: str = "") -> str:
    """Return the folder that a training writes its checkpoint to, relative to the profile's root."""
    return "/".join(filter(None, ("data/models", stage, name)))


def checkpoint_folder(start: str) -> str:
    """Return the checkpoint folder of a start: absolute, or relative to the profile's root."""
    training = trained_here(start)
    return model_folder(*training) if training else start


def check_start(start: str, trainings: Mapping[str, Collection[str]]) -> None:
    """Check that a start exists as far as names tell.

    Args:
        trainings: names of the profile's trainings, by stage.

    Raises:
        ValueError: the start names a training that the profile does not have.
    """
    training = trained_here(start)
    if training is None or training[1] in trainings[training[0]]:
        return
    known = ", ".join(f"{stage}/{name}" for stage, names in trainings.items() for name in names) or "none"
    raise ValueError(
        f"there is no training {start!r} in this profile (there are: {known}); name one of these, or a folder that begins "
        "with / or ./"
    )


def check_chain(name: str, starts: Mapping[str, str]) -> None:
    """Check that the fine-tunings before `name` end at a start that is none of them.

    Args:
        starts: start of every fine-tuning, by name.

    Raises:
        ValueError: the fine-tunings start from each other in a circle.
    """
    seen = [name]
    while (training := trained_here(starts[seen[-1]])) and training[0] == "finetune":
        if training[1] in seen:
            raise ValueError(f"fine-tunings start from each other in a circle: {' <- '.join([*seen, training[1]])}")
        seen.append(training[1])

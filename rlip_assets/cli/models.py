"""Commands about registered models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from rlip_assets.cli.options import Device, Profile
from rlip_assets.lineage.profiles import DEFAULT_PROFILE, profile_root

if TYPE_CHECKING:
    from rlip_model.checkpoints.recognise import Recognised


def promote(
    model: Annotated[str, typer.Argument(help="Item that trains it, such as r_tagger or finetune@hico_full.")],
    version: Annotated[str | None, typer.Option(help="Version; the newest by default.")] = None,
    profile: Profile = DEFAULT_PROFILE,
) -> None:
    """Make a registered model the champion. After a new R-Tagger is promoted, Dagster re-tags the buckets that another one has tagged."""
    from rlip_assets.tracking.promotion import promote as promote_version

    record = promote_version(profile_root(profile), model, version)
    print(f"{record.model} version {record.version} is promoted (hash {record.data_version})")


def import_checkpoint(
    file: Annotated[Path, typer.Argument(help="Released .pth file.")],
    folder: Annotated[Path, typer.Argument(help="Checkpoint folder to write.")],
    tokenizer: Annotated[
        str, typer.Option(help="Hub name or folder of the tokenizer of the text encoder.")
    ] = "roberta-base",
    gate: Annotated[
        str | None, typer.Option(help="Fusion gate, vxac, glip or none, for files that leave it undecided.")
    ] = None,
    label_texts: Annotated[
        str | None,
        typer.Option(
            help="published for a network fine-tuned on the names of Open Images as they are published (Sea turtle, inside_of), "
            "or cleaned; by default what the file says."
        ),
    ] = None,
) -> None:
    """Convert a released checkpoint; nothing in the file is executed. Prints the evidence for every setting."""
    from rlip_assets.storage.outputs import output_folder

    with output_folder(folder, "import-checkpoint", [file]) as target:
        recognised = convert_checkpoint(file, target, tokenizer, gate, label_texts)
    for name, why in recognised.evidence.items():
        print(f"{name:24} {why}")
    print(f"wrote {folder}")


def convert_checkpoint(
    file: Path, folder: Path, tokenizer: str, gate: str | None, label_texts: str | None
) -> Recognised:
    """Convert a released file with the options of the command line.

    Raises:
        ParameterError: an option without meaning. InputError: the file cannot be read or does not fit.
    """
    from rlip_assets.storage.errors import InputError, ParameterError
    from rlip_model.checkpoints.importing import import_checkpoint as convert
    from rlip_model.config import Gate, LabelTexts

    if gate not in (None, *get_args(Gate)):
        raise ParameterError(f"There is no gate {gate!r}: --gate is {', '.join(get_args(Gate))}")
    if label_texts not in (None, *get_args(LabelTexts)):
        known = ", ".join(get_args(LabelTexts))
        raise ParameterError(f"There are no label texts {label_texts!r}: --label-texts is {known}")
    try:
        return convert(file, folder, tokenizer, gate, label_texts)  # type: ignore[arg-type]
    except ValueError as error:
        raise InputError(str(error)) from None


def import_detector(
    file: Annotated[
        Path,
        typer.Argument(help=".pth file of Deformable-DETR or DAB-Deformable-DETR with box refinement, or of DETR."),
    ],
    folder: Annotated[Path, typer.Argument(help="Folder to write, for `external.detector` in params.yaml.")],
) -> None:
    """Convert a box detector that a training can start from; nothing in the file is executed."""
    from rlip_assets.storage.errors import InputError
    from rlip_assets.storage.outputs import output_folder
    from rlip_model.checkpoints.importing import import_detector as convert

    try:
        with output_folder(folder, "import-detector", [file]) as target:
            count = convert(file, target)
    except ValueError as error:
        raise InputError(str(error)) from None
    print(f"wrote {count} tensors to {folder}")


def merge(
    finetuned: Annotated[Path, typer.Argument(help="Checkpoint folder of a fine-tuned network.")],
    start: Annotated[Path, typer.Argument(help="Checkpoint folder that its fine-tuning started from.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Checkpoint folder to write.")],
    alpha: Annotated[
        str, typer.Option(help="Share of the fine-tuned weights, 0 to 1; several, separated by commas, with --choose.")
    ] = "0.5",
    choose: Annotated[
        bool, typer.Option("--choose", help="Choose among several shares on the images that the fine-tuning held out.")
    ] = False,
    device: Device = "cpu",
    profile: Profile = DEFAULT_PROFILE,
) -> None:
    """Interpolate the weights of a fine-tuned network and its start. Unseen classes and test images have no part in a choice."""
    from tempfile import TemporaryDirectory

    from rlip_assets.storage.errors import ParameterError
    from rlip_assets.storage.outputs import output_folder
    from rlip_assets.training.merging import held_out_evaluation, merge_folders

    shares = _shares(alpha)
    if choose != (len(shares) > 1):
        raise ParameterError(
            f"--alpha has {len(shares)} shares; give several with --choose, which chooses among them, or one without it"
        )
    with output_folder(output, "merge", [finetuned, start]) as target, TemporaryDirectory() as work:
        evaluate = held_out_evaluation(finetuned, profile_root(profile), Path(work)) if choose else None
        chosen = merge_folders(finetuned, start, shares, target, evaluate, device)
    for row in chosen.tried:
        print("  ".join(f"{name} {value:.4g}" for name, value in row.items()))
    print(f"wrote {output} with alpha {chosen.alpha:g}")


def _shares(text: str) -> list[float]:
    """Return the shares of an option, each once.

    Raises:
        ParameterError: a part is no number from 0 to 1.
    """
    from rlip_assets.storage.errors import ParameterError

    try:
        shares = list(dict.fromkeys(map(float, text.split(","))))
    except ValueError:
        shares = []
    if not shares or not all(0 <= share <= 1 for share in shares):
        raise ParameterError(f"--alpha is {text!r}; give numbers from 0 to 1, such as 0.5 or 0,0.25,0.5")
    return shares

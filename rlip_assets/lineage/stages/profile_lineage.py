"""The facts that all stages of one profile share: its parameters, buckets, labels, weights and exclusions, as paths."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from rlip_assets.lineage.datasets import HUMAN_DATASET, HUMAN_EXCLUSIONS
from rlip_assets.lineage.layout import detection_folder, facts_file, partition_key, scene_folder
from rlip_assets.lineage.params import Params
from rlip_assets.lineage.params.consistency import labelled_here, own_labelled
from rlip_assets.lineage.params.training import DetectorChoice
from rlip_assets.lineage.spec import StageItem
from rlip_assets.lineage.starts import model_folder


class ProfileLineage:
    """The lineage of one profile.

    Args:
        project: path from the profile's root to the project's root, where shipped files lie.
    """

    def __init__(self, params: Params, project: PurePosixPath) -> None:
        self.params, self.sources, self.training = params, params.sources, params.training
        self._shipped = project / "rlip_assets/micro_world/starting_weights/weights"
        self.labelled_here = labelled_here(params)
        self.own_labelled = own_labelled(params)
        self.read = tuple(name for name in self.sources.names if name not in params.external.labels)
        """Datasets that become scene tables; those with imported labels come as scenes already."""

    def shipped(self, external: str | None, name: str) -> str:
        """Return a folder of external weights, or the one that is shipped for the micro world."""
        return external or str(self._shipped / name)

    @property
    def text_encoder(self) -> str:
        """Folder of the text encoder."""
        return self.shipped(self.params.external.text_encoder, "text_encoder")

    def detector(self, choice: DetectorChoice) -> str:
        """Return the folder of the detector that a network starts from."""
        return self.shipped(choice.detector or self.params.external.detector, "detector")

    @property
    def tagger(self) -> str:
        """Checkpoint of the R-Tagger: trained here or imported."""
        return self.params.external.r_tagger or model_folder("r_tagger")

    def buckets(self, datasets: Iterable[str]) -> list[tuple[str, str]]:
        """(dataset, bucket name) of every bucket."""
        return [(dataset, f"bucket-{k}") for dataset in datasets for k in range(self.sources.of(dataset).buckets)]

    def labels(self, datasets: Iterable[str]) -> dict[str, str]:
        """Return the pseudo labels of some datasets as inputs: those made here, or the imported ones."""
        imported = self.params.external.labels
        return {f"pseudo_labels/{d}": imported.get(d, f"data/pseudo_labels/{d}") for d in datasets}

    def boxes(self, dataset: str) -> str:
        """Return the folder of the scene tables on whose boxes a dataset is labelled: the annotated ones, or the detected ones of a
        benchmark."""
        return detection_folder(dataset) if dataset in self.own_labelled else scene_folder(dataset)

    def labelled(self, stage: str, inputs: Mapping[str, str], *params: str) -> tuple[StageItem, ...]:
        """Items over the buckets that receive pseudo labels; `inputs` may speak of {dataset}, {bucket} and its {boxes}."""
        return tuple(
            StageItem(
                stage,
                partition_key(dataset, bucket),
                {
                    name: path.format(dataset=dataset, bucket=bucket, boxes=self.boxes(dataset))
                    for name, path in inputs.items()
                },
                {stage: f"data/{stage}/{dataset}/{bucket}"},
                params,
            )
            for dataset, bucket in self.buckets(self.labelled_here)
        )

    @property
    def _compared(self) -> bool:
        """Return whether images are compared with those of test splits."""
        return self.params.decontamination.exclude and bool(self.sources.benchmarks)

    @property
    def decontaminated(self) -> tuple[str, ...]:
        """Datasets whose images are compared with test images before they are labelled."""
        real = (dataset for dataset in self.labelled_here if not self.sources.is_drawn(dataset))
        return tuple(real) if self._compared else ()

    def facts(self, dataset: str) -> dict[str, str]:
        """Return what is known of a whole dataset as an input; none but for Visual Genome."""
        return {"facts": facts_file(dataset)} if dataset == HUMAN_DATASET and dataset in self.read else {}

    @property
    def human_exclusions(self) -> dict[str, str]:
        """Return the inputs of trainings on human triplets besides these."""
        real = HUMAN_DATASET in self.sources.names and not self.sources.is_drawn(HUMAN_DATASET)
        return {HUMAN_EXCLUSIONS: f"data/{HUMAN_EXCLUSIONS}"} if real and self._compared else {}

"""The profile under examination: what several checks share, read once."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from rlip_assets.datasets.sources.roots import is_remote, raw_root
from rlip_assets.doctor.foreign_inputs import recipe_of
from rlip_assets.doctor.parameters import ReadParameters, read_parameters
from rlip_assets.doctor.raw_data import RawData, read_raw_data
from rlip_assets.lineage.params import Params
from rlip_assets.lineage.profiles import PARAMS_FILE, PROJECT_ROOT, profile_option, relative_project
from rlip_assets.lineage.recipes import Recipe
from rlip_assets.lineage.registry import build_registry
from rlip_assets.lineage.spec import Registry, StageItem
from rlip_assets.storage.errors import RlipError


@dataclass
class Examination:
    """One profile.

    Attributes:
        root: its folder.
        sample: images of each dataset that are decoded.
        thorough: read every row of annotation files of any size.
    """

    root: Path
    sample: int = 50
    thorough: bool = False
    project: Path = PROJECT_ROOT
    _raw: dict[str, RawData] = field(default_factory=dict)

    @cached_property
    def read(self) -> ReadParameters:
        """The parameters with what is wrong with them."""
        return read_parameters(self.root / PARAMS_FILE)

    @property
    def params(self) -> Params | None:
        """The valid parameters; None where none can be read."""
        return self.read.params

    @cached_property
    def registry(self) -> Registry | RlipError | ValueError | None:
        """The stages; an error where valid parameters make none, None without parameters."""
        if self.params is None:
            return None
        try:
            return build_registry(self.params, relative_project(self.root, self.project))
        except (RlipError, ValueError) as error:
            return error
        except Exception as error:  # what contradicts itself makes no stages, and is told by another check
            if not self.read.contradictions and not self.read.wrong:
                raise
            return ValueError(f"the parameters make no stages ({type(error).__name__}: {error}); correct params.yaml")

    @property
    def stages(self) -> Registry | None:
        """The stages, where there are any."""
        return self.registry if isinstance(self.registry, Registry) else None

    @property
    def option(self) -> str:
        """Return the option that makes a `rlip` command be about this profile."""
        return profile_option(self.root, self.project)

    def datasets(self) -> list[str]:
        """Return the datasets of the profile whose parameters are valid."""
        if self.params is None:
            return []
        sources = self.params.sources
        return [name for name in sources.names if self.read.usable(sources.key(name))]

    def present(self) -> list[str]:
        """Return the datasets whose root is a folder of this machine."""
        return [dataset for dataset in self.datasets() if self._is_folder(dataset)]

    def _is_folder(self, dataset: str) -> bool:
        try:
            return self.folder(dataset).is_dir()
        except (RlipError, OSError):
            return False

    def recipe(self, item: StageItem) -> Recipe | None:
        """Return the recipe that a training or a prediction follows; None for other stages, and where none is named."""
        assert self.params is not None
        return recipe_of(self.params, item)

    def raw(self, dataset: str) -> RawData:
        """Return what there is of a dataset; read at the first call."""
        assert self.params is not None
        if dataset not in self._raw:
            self._raw[dataset] = read_raw_data(self.params.sources, dataset, self.root, self.thorough)
        return self._raw[dataset]

    def is_remote(self, dataset: str) -> bool:
        """Return whether a dataset lies in an object store."""
        assert self.params is not None
        return is_remote(self.params.sources.of(dataset).root)

    def folder(self, dataset: str) -> Path:
        """Return the local folder of a dataset."""
        assert self.params is not None
        return raw_root(self.params.sources, dataset, self.root)

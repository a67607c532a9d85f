"""Digest of the source that each stage imports, so that a change of a stage's code cannot go unnoticed.

The modules are found in the import graph, starting from the module of the stage function and including imports inside functions. Of each
module the syntax tree without docstrings is hashed: comments, layout and documentation may change freely. Data files beside the modules
or in folders of data below them (word lists, recipes, class tables) count as source; `versions.yaml`, which holds the digests, does not.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from rlip_assets.lineage.params import Params
from rlip_assets.lineage.profiles import PROJECT_ROOT
from rlip_assets.lineage.registry import build_registry
from rlip_assets.lineage.spec import Registry
from rlip_assets.lineage.versions import VERSIONS_FILE, stage_versions
from rlip_assets.storage.errors import ParameterError
from rlip_assets.storage.files import digest_json, write_text

PACKAGES = ("rlip_model", "rlip_assets")
DATA_SUFFIXES = {".json", ".tsv", ".csv", ".toml", ".yaml", ".txt", ".png", ".jinja"}
HEADER = (
    "# One entry a stage. Raise `version` when the stage may give other results for the same inputs and parameters;\n"
    "# `rlip source-digests --renew` records the source. Renewing with the same version says: no change of results.\n"
)
_PLUMBING = ("rlip_assets.lineage.params", "rlip_assets.storage.errors", "rlip_assets.lineage.context")
"""Modules that every stage imports and that do not decide results: parameter models (values are tracked), errors and interfaces. What they
import counts only for the stages that import it otherwise too."""


_EVERY_STAGE = (
    Params.model_validate(
        {
            "training": {
                "finetune": {"own": {"recipe": "micro_hico_full", "changes": {"own_labels": "hico_det"}}},
            }
        }
    ),
    Params.model_validate(
        {
            "sources": {
                "own": {"real": {"root": "real", "form": "open_images_boxes"}},
                "visual_genome": {"root": "real"},
            },
            "oracle": {"captions": True},
            "tagging": {"calibration": "isotonic"},
            "predictions": {"official": {"checkpoint": "/official", "benchmark": "hico_det"}},
        }
    ),
)
"""Parameters with which registries together have all stages: those of own labels; those of real datasets alone, and the source of
studies."""


def changed_stages() -> list[str]:
    """Stages whose source differs from the recorded one, or that have no record."""
    recorded = stage_versions()
    return [
        name for name, digest in current_digests().items() if name not in recorded or recorded[name].source != digest
    ]


def renew_digests() -> list[str]:
    """Record the current source of every stage, keeping versions; returns the stages that changed."""
    changed = changed_stages()
    versions = {name: entry.version for name, entry in stage_versions().items()}
    entries = {name: {"version": versions.get(name, 1), "source": digest} for name, digest in current_digests().items()}
    write_text(PROJECT_ROOT / VERSIONS_FILE, HEADER + yaml.safe_dump(entries, sort_keys=False))
    stage_versions.cache_clear()
    return changed


def current_digests(registry: Registry | None = None) -> dict[str, str]:
    """Stage name -> digest of the source it imports now."""
    registries = [registry] if registry else map(build_registry, _EVERY_STAGE)
    modules = {spec.name: spec.module for each in registries for spec in each.specs.values()}
    return {name: _digest(imported_modules(module)) for name, module in modules.items()}


def imported_modules(module: str) -> list[str]:
    """`module`, every module of the project that it imports, directly or not, and the packages they lie in, sorted.

    Raises:
        ParameterError: the module does not exist.
    """
    graph = _import_graph()
    if module not in graph.modules:
        raise ParameterError(f"The registry names the module {module}, which does not exist")
    modules = {module, *graph.find_upstream_modules(module)}
    modules |= {package for m in modules if "." in (package := m.rpartition(".")[0])}
    return sorted(m for m in modules if m.startswith(PACKAGES) and not m.startswith(_PLUMBING))


@cache
def _import_graph() -> Any:
    import grimp

    graph = grimp.build_graph(*PACKAGES, include_external_packages=False, cache_dir=None)
    for module in [module for module in graph.modules if module.startswith(_PLUMBING)]:
        graph.remove_module(module)
    return graph


def _digest(modules: Iterable[str]) -> str:
    return digest_json([[module, *_module_parts(module)] for module in modules])


@cache
def _module_parts(module: str) -> tuple[str, ...]:
    """Digest of a module's syntax tree; for a package also of its data files."""
    path = PROJECT_ROOT / Path(*module.split("."))
    if not path.is_dir():
        return (_tree_digest(path.with_suffix(".py")),)
    data = [file for file in _data_files(path) if file != PROJECT_ROOT / VERSIONS_FILE]
    digests = (f"{file.relative_to(path).as_posix()}:{hashlib.sha256(file.read_bytes()).hexdigest()}" for file in data)
    return (_tree_digest(path / "__init__.py"), *digests)


def _data_files(folder: Path) -> Iterator[Path]:
    """Data files of a folder and of the folders below it that are no packages, in order."""
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not (path / "__init__.py").exists():
            yield from _data_files(path)
        elif path.suffix in DATA_SUFFIXES:
            yield path


def _tree_digest(path: Path) -> str:
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and ast.get_docstring(node) is not None
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()

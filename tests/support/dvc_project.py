"""A miniature lineage as a DVC project in a folder of its own, run by the same command as a person's."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rlip_assets.dvc.pipeline import render_dvc_yaml
from rlip_assets.lineage.params_yaml import render_params_yaml
from rlip_assets.lineage.profiles import PROJECT_ROOT, relative_project
from rlip_assets.lineage.registry import load_registry
from tests.support.miniature import make_project


@dataclass(frozen=True)
class DvcProject:
    """A profile outside the project, with a tracking store of its own."""

    root: Path

    @classmethod
    def make(cls, root: Path, changes: Mapping[str, Mapping[str, Any]] | None = None) -> DvcProject:
        """The miniature lineage, with some keys of sections of its parameters changed, in the new folder `root`."""
        root.mkdir(parents=True)
        make_project(root)
        path = root / "params.yaml"
        content = yaml.safe_load(path.read_text())
        for section, values in (changes or {}).items():
            content[section].update(values)
        path.write_text(yaml.safe_dump(content))
        path.write_text(render_params_yaml(path))
        (root / "dvc.yaml").write_text(render_dvc_yaml(load_registry(root), relative_project(root)))
        project = cls(root)
        project.run("dvc", "init", "--no-scm", "--quiet")
        config = (PROJECT_ROOT / ".dvc/config").read_text()
        (root / ".dvc/config").write_text(config.replace("[core]", "[core]\n    no_scm = true"))
        (root / ".dvcignore").write_text((PROJECT_ROOT / ".dvcignore").read_text())
        return project

    @property
    def variables(self) -> dict[str, str]:
        """Environment of its processes."""
        return {
            **os.environ,
            "PYTHONPATH": str(PROJECT_ROOT),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "MLFLOW_TRACKING_URI": f"sqlite:///{self.root}/mlruns/mlflow.db",
            "OMP_NUM_THREADS": "1",
            "DVC_NO_ANALYTICS": "1",
        }

    def start(self, *words: str) -> subprocess.Popen[str]:
        """A command in a process group of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", *words],
            cwd=self.root,
            env=self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *words: str) -> str:
        """Output of a command that has to succeed."""
        process = self.start(*words)
        output, _ = process.communicate(timeout=1200)
        assert process.returncode == 0, f"{' '.join(words)} ended with {process.returncode}: {output[-3000:]}"
        return output

"""Permissions of written files: what the user's umask allows, whatever a library chose.

Libraries that write through a temporary file (safetensors, `tempfile`) leave it readable by its owner alone, also after it was renamed.
"""

from __future__ import annotations

import os
from pathlib import Path


def apply_umask(path: Path) -> None:
    """Give a file or folder the permissions of a newly created one, beside those that it has; links are left alone."""
    if path.is_symlink():
        return
    umask = os.umask(0o022)
    os.umask(umask)
    mode = path.stat().st_mode & 0o7777
    path.chmod(mode | ((0o777 if path.is_dir() else 0o666) & ~umask))

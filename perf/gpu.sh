#!/usr/bin/env bash
# Check what a bare GPU machine has, then run every GPU check on it: perf/gpu.sh [options of perf/gpu.py]
# Installs and downloads nothing. PYTHON names the interpreter that has PyTorch (default: python3).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python3}

"$python" - <<'CHECK'
import sys
from importlib.metadata import PackageNotFoundError, version

NEEDED = {"torch": (2, 11), "transformers": (5, 17), "triton": (3, 6), "numpy": (2,), "scipy": (1,), "safetensors": (0,), "tokenizers": (0,)}
lacking = [] if sys.version_info >= (3, 11) else [f"Python 3.11 or later (this is {sys.version.split()[0]})"]
for name, least in NEEDED.items():
    try:
        found = tuple(int(part) for part in version(name).split("+")[0].split(".")[: len(least)])
    except PackageNotFoundError:
        found = ()
    if found < least:
        lacking.append(f"{name} {'.'.join(map(str, least))} or later" + (f" (this is {version(name)})" if found else ""))
if lacking:
    sys.exit("this machine lacks " + ", ".join(lacking))
CHECK
command -v cc gcc clang >/dev/null || echo "no C compiler: Triton needs one to launch kernels, unless it brings its own" >&2

export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
export PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1    # rows as they come; nothing left in the tree
export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 TOKENIZERS_PARALLELISM=false
# The allocator stays as it is by default: memory is measured as users have it.
exec "$python" -m perf.gpu "$@"

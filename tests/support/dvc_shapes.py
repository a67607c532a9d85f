"""DVC projects in the shapes that people write: a pipeline from a `.dvc` file, experiments with parameters, a monorepo, every template."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

COPY = "python shout.py"
SCRIPT = """import os, sys, time
*sources, target = sys.argv[1:]
time.sleep(float(os.environ.get("SHAPE_SLEEP", "0")))
text = "".join(open(path).read() for path in sources)
if "broken" in text:
    sys.exit("shout: the text is broken")
os.makedirs(os.path.dirname(target) or ".", exist_ok=True)
open(target, "w").write(text.upper())
"""


def dvc(root: Path, *words: str, check: bool = True) -> str:
    """Run a DVC command in a folder and return what it printed."""
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *words], cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def make(root: Path, files: dict[str, Any]) -> Path:
    """Write files (mappings as YAML) into a new DVC project; `shout.py` concatenates its sources in capitals."""
    root.mkdir(parents=True)
    dvc(root, "init", "--no-scm", "--quiet")
    for name, content in {"shout.py": SCRIPT, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
    return root


def get_started(root: Path) -> Path:
    """A file that DVC tracks, prepared, split, trained on and evaluated, with metrics, plots and parameters."""
    stages = {
        "prepare": {
            "cmd": f"{COPY} data/data.txt data/prepared/all.txt",
            "deps": ["data/data.txt", "shout.py"],
            "params": ["prepare.seed"],
            "outs": ["data/prepared"],
            "desc": "Split the text.",
            "meta": {"owners": ["team:data"], "group": "preparation"},
        },
        "train": {
            "cmd": f"{COPY} data/prepared/all.txt model.txt",
            "deps": ["data/prepared"],
            "params": ["train"],
            "outs": ["model.txt"],
        },
        "evaluate": {
            "cmd": 'echo \'{"auc": {"train": 0.9}}\' > metrics.json; echo \'<svg xmlns="http://www.w3.org/2000/svg"/>\' > roc.svg',
            "deps": ["model.txt"],
            "metrics": [{"metrics.json": {"cache": False}}],
            "plots": [{"roc.svg": {"cache": False}}],
        },
    }
    params = {"prepare": {"seed": 1}, "train": {"rate": 0.1, "steps": 3}}
    make(root, {"dvc.yaml": {"stages": stages}, "params.yaml": params, "data/data.txt": "text\n"})
    dvc(root, "add", "--quiet", "data/data.txt")
    return root


def templates(root: Path) -> Path:
    """`foreach` over a list, over a mapping and over `vars`, `matrix`, a frozen stage, one that always runs, one without outputs."""
    stages = {
        "source": {"foreach": ["a", "b"], "do": {"cmd": "echo ${item} > ${item}.txt", "outs": ["${item}.txt"]}},
        "shout": {
            "foreach": {"a": {"from": "a"}, "b": {"from": "b"}},
            "do": {
                "cmd": f"{COPY} ${{item.from}}.txt loud/${{key}}.txt",
                "deps": ["${item.from}.txt"],
                "outs": ["loud/${key}.txt"],
            },
        },
        "cross": {
            "matrix": {"letter": ["a", "b"], "size": "${sizes}"},
            "cmd": f"{COPY} loud/${{item.letter}}.txt cross/${{item.letter}}-${{item.size}}.txt",
            "deps": ["loud/${item.letter}.txt"],
            "outs": ["cross/${item.letter}-${item.size}.txt"],
        },
        "gather": {"cmd": f"{COPY} cross/a-1.txt cross/b-2.txt all.txt", "deps": ["cross"], "outs": ["all.txt"]},
        "some": {"cmd": f"{COPY} loud/a.txt some.txt", "deps": ["loud/a.txt"], "outs": ["some.txt"]},
        "step": {
            "foreach": {"1": {"before": "0"}, "2": {"before": "1"}},
            "do": {
                "cmd": f"{COPY} steps/${{item.before}}.txt steps/${{key}}.txt",
                "deps": ["steps/${item.before}.txt"],
                "outs": ["steps/${key}.txt"],
            },
        },
        "kept": {"cmd": "echo kept > kept.txt", "outs": ["kept.txt"], "frozen": True},
        "clock": {"cmd": "echo now > clock.txt", "outs": ["clock.txt"], "always_changed": True},
        "notify": {"cmd": "echo told", "deps": ["all.txt"]},
    }
    return make(
        root,
        {"dvc.yaml": {"vars": [{"sizes": [1, 2]}], "stages": stages}, "steps/0.txt": "zero\n", "kept.txt": "kept\n"},
    )


def monorepo(root: Path) -> Path:
    """Three `dvc.yaml`: the second reads what the first writes, the third (with a `wdir`) what the second does."""
    raw = {"stages": {"load": {"cmd": "echo raw > raw.txt", "outs": ["raw.txt"]}}}
    features = {
        "stages": {
            "build": {
                "cmd": "python ../shout.py ../data/raw.txt table.txt",
                "deps": ["../data/raw.txt"],
                "params": [{"../settings.json": ["depth"]}],
                "outs": ["table.txt"],
            }
        }
    }
    model = {
        "stages": {
            "fit": {
                "foreach": ["small", "large"],
                "do": {
                    "wdir": "work",
                    "cmd": "python ../../shout.py ../../features/table.txt ${item}.txt",
                    "deps": ["../../features/table.txt"],
                    "outs": ["${item}.txt"],
                },
            }
        }
    }
    files = {
        "data/dvc.yaml": raw,
        "features/dvc.yaml": features,
        "model/dvc.yaml": model,
        "settings.json": '{"depth": 3}',
    }
    make(root, {**files, "model/work/.keep": ""})
    return root


def oddities(root: Path) -> Path:
    """What DVC allows and Dagster does not: names, keys, owners and values that mean something else to it, or collide."""
    wide = {"cmd": "cat 'my files/größe 1.txt' > ok.txt", "deps": ["my files/größe 1.txt"], "outs": ["ok.txt"]}
    stages = {
        "import": {
            **wide,
            "desc": "A word of Python.",
            "meta": {"owner": ["Ann Lee", "ann@example.com"], "group": "é 1", "pool": "big gpu"},
        },
        "on": {"cmd": ["echo 1 > on.txt", "echo 2 >> on.txt"], "outs": ["on.txt"], "meta": "only a text"},
        "a-b": {"cmd": "echo `date` > a-b.txt", "outs": [{"a-b.txt": {"push": False, "persist": True}}]},
        "a_b": {"cmd": "echo 1 > a_b.txt\necho 2 >> a_b.txt\n", "outs": ["a_b.txt"]},
        "größe": {"cmd": "echo 1 > g.txt", "outs": [{"g.txt": {"cache": False}}]},
        "data": {"cmd": "cat data > copy.txt", "deps": ["data"], "outs": ["copy.txt"]},
        "share": {
            "foreach": "${shares}",
            "do": {
                "desc": "Take ${item.part}.",
                "cmd": "mkdir -p out/${key}; echo ${item.part} > out/${key}/share.txt",
                "params": [{"extra.toml": ["rates"]}],
                "outs": ["out/${key}/share.txt"],
            },
        },
        "dots": {"foreach": ["x...y", "z/1"], "do": {"cmd": "echo ${item}", "deps": ["copy.txt"]}},
        "score": {
            "cmd": "python score.py",
            "deps": ["score.py"],
            "params": [{"settings.py": ["SIZES", "Model.kinds"]}, {"labels.yaml": []}, {"none.json": ["a"]}, "empty"],
            "outs": ["eval"],
            "metrics": [{"loss.yaml": {"cache": False}}, {"bare.json": {"cache": False}}],
        },
    }
    score = """import json, os
os.makedirs("eval/deep", exist_ok=True)
for name in ("train", "test"):
    json.dump({"auc": 0.5, "loss": float("nan"), "path": "a"}, open(f"eval/{name}.json", "w"))
open("eval/deep/table.toml", "w").write("size = 3")
open("eval/deep/wrong.parquet", "w").write("text")
open("loss.yaml", "w").write("best: 1e-5")
open("bare.json", "w").write("0.25")
"""
    files = {
        "dvc.yaml": {
            "metrics": ["eval/train.json", "eval/test.json", "eval/deep/table.toml"],
            "plots": [{"eval/train.json": {"x": "auc", "y": "loss"}}],
            "artifacts": {"model": {"path": "copy.txt", "type": "model"}},
            "stages": stages,
        },
        "params.yaml": {"shares": {"eu/no": {"part": 0.1}, "0.5": {"part": "half"}}, "empty": None},
        "extra.toml": "[rates]\nlow = 0.1\n",
        "settings.py": "SIZES = [1, 2]\n\nclass Model:\n    kinds = ('a', 'b')\n",
        "labels.yaml": "names: {0: cat, 1: dog}\n",
        "score.py": score,
        "my files/größe 1.txt": "text\n",
        "data": "tracked\n",
    }
    make(root, files)
    dvc(root, "add", "--quiet", "data")
    return root

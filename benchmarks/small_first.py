"""What fine-tuning gains by small pictures first: whole runs on TrashNet with them, and with every view in full size.

python -m benchmarks.small_first [SEED ...]        (seed 2 if none is named: eight minutes on two cores, nothing beside)

A seed's two runs follow each other, each with an empty cache; the splits are those of benchmarks.transfer.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from benchmarks.machine import keep
from benchmarks.transfer import TRASHNET, split_of
from benchmarks.whole_run import run

SIDES = {"full": 1.0, "small first": 0.7}
"""The side of small pictures over the network's: with 1 there are none."""


def main() -> None:
    """Run and keep each."""
    for seed in [int(given) for given in sys.argv[1:]] or [2]:
        for name, side in SIDES.items():
            with tempfile.TemporaryDirectory() as work:
                model = Path(work) / "model"
                code = f"import graft.finetune.phases as tuning; tuning.SMALL_SIDE = {side}; "
                code += "from graft.cli.app import main; main()"
                cost, _ = run([
                    sys.executable, "-c", code, "train", str(TRASHNET), "--csv", str(split_of(seed)),
                    "--out", str(model), "--strategy", "finetune", "--seed", str(seed),
                    "--cache", str(Path(work) / "cache"),
                ])  # fmt: skip
                manifest = json.loads((model / "model.json").read_text())
            found = {
                "seconds": round(cost.seconds, 1),
                "fine_tuning_seconds": round(manifest["seconds"]["fine-tuning"], 1),
                "maps": manifest["record"]["maps"],
                "test": manifest["test"]["top1"]["value"],
            }
            keep("small_first", {f"{name} seed {seed}": found})


if __name__ == "__main__":
    main()

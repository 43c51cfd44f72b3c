"""Measure the share of a training that goes into saving checkpoints and adapters.

    python benchmarks/checkpoint_cost.py [--preset "Quick demo"] [--max-steps 250]

Trains the bundled model on the bundled data and adds up what the loop spends in saving. Exit code 1
if it is 2 % of the training or more.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qa_lora import checkpoint, runs, saving
from qa_lora.adapters import save_adapter
from qa_lora.config import TrainConfig
from qa_lora.events import Finished
from qa_lora.worker import execute

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 0.02


def timed(function: Callable[..., Any], seconds: list[float]) -> Callable[..., Any]:
    """The same function, noting how long each call takes."""

    def call(*args: Any, **named: Any) -> Any:
        began = time.perf_counter()
        try:
            return function(*args, **named)
        finally:
            seconds.append(time.perf_counter() - began)

    return call


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--preset", default="Quick demo")
    parser.add_argument("--max-steps", type=int)
    parser.add_argument("--checkpoint-seconds", type=float)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/checkpoint.json")
    options = parser.parse_args()
    given = {"max_steps": options.max_steps, "checkpoint_seconds": options.checkpoint_seconds}
    settings = {name: value for name, value in given.items() if value is not None}
    config = TrainConfig.build(options.preset, score_rows=0, **settings)

    checkpoints: list[float] = []
    adapters: list[float] = []
    vars(checkpoint)["save"] = timed(checkpoint.save, checkpoints)
    vars(saving)["save_adapter"] = timed(save_adapter, adapters)
    total = 0.0
    with tempfile.TemporaryDirectory() as folder:
        run = runs.create(config, folder)
        for event in execute(run):
            if isinstance(event, Finished):
                total = event.seconds
        size = sum(path.stat().st_size for path in run.checkpoint.iterdir())
    share = (sum(checkpoints) + sum(adapters)) / total
    for name, seconds in (("checkpoints", checkpoints), ("adapters", adapters)):
        median = 1000 * statistics.median(seconds) if seconds else 0
        print(
            f"{name:12} {len(seconds):4} x {median:7.1f} ms (median), {sum(seconds):6.2f} s in all"
        )
    print(f"a checkpoint has {size / 1e6:.1f} MB")
    print(f"saving took {100 * share:.2f} % of {total:.1f} s")
    report = {
        "checkpoint_seconds": checkpoints,
        "adapter_seconds": adapters,
        "training_seconds": total,
        "share": share,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0 if share < LIMIT else 1


if __name__ == "__main__":
    raise SystemExit(main())

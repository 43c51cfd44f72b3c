"""How fast this project's loop trains, beside the source notebook's and a ready-made trainer's.

    python benchmarks/train_throughput.py [--shape flan-t5-small] [--steps 7] [--out FILE.json]

Every loop trains the same model on the same rows with the same LoRA, learning rate, effective batch
and number of optimizer steps, each in a process of its own, one after the other. A window is one
optimizer step; the first ones warm up and are not counted. Tokens are real ones: padding is no work
done. Validation loss is computed in the same way for all. Exit code 1 if a required ratio is
missed.

Shapes of FLAN-T5 have random weights: right for speed and memory, wrong for quality. `pocket`
trains on `atlas`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
from pathlib import Path
from typing import Any

from own_process import run_part
from throughput.workload import SHAPES, Workload, make_model, make_rows

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
LOOPS = {
    "notebook": "(a) the notebook's loop",
    "trainer": "(b) Seq2SeqTrainer, defaults",
    "trainer-best": "(c) Seq2SeqTrainer, its best",
    "ours": "(d) this project",
}
REQUIRED = {"notebook": 6.0, "trainer": 3.0, "trainer-best": 2.0}
"""Times as many real tokens a second as these, on two CPU cores with FLAN-T5-small."""
LOSS_TOLERANCE = 0.01
"""The validation loss may be this much worse than the trainers'."""


def summarise(result: dict[str, Any], warm_up: int, effective_batch: int) -> dict[str, Any]:
    """Medians over the counted windows."""
    windows = result["steps"][warm_up:]
    return {
        "tokens_per_second": statistics.median(tokens / seconds for seconds, tokens in windows),
        "samples_per_second": statistics.median(
            effective_batch / seconds for seconds, _ in windows
        ),
        "peak_memory_bytes": result["peak_memory_bytes"],
        "validation_loss": result["validation_loss"],
        "windows": windows,
        "flops_per_token": result["flops_per_token"],
    }


def show(shape: str, found: dict[str, dict[str, Any]], peak_tflops: float | None) -> bool:
    """Print the table; whether every requirement that applies is met."""
    ours, good = found["ours"], True
    head = f"{'loop':32}{'tokens/s':>10}{'samples/s':>11}{'peak MB':>9}{'loss':>9}{'(d) is':>9}"
    print(f"{shape}\n{head}")
    for loop, row in found.items():
        ratio = ours["tokens_per_second"] / row["tokens_per_second"]
        print(
            f"{LOOPS[loop]:32}{row['tokens_per_second']:10.0f}{row['samples_per_second']:11.2f}"
            f"{row['peak_memory_bytes'] / 1e6:9.0f}{row['validation_loss']:9.4f}{ratio:8.2f}x"
        )
        achieved = row["tokens_per_second"] * row["flops_per_token"] / 1e12
        share = f", {100 * achieved / peak_tflops:.0f} % of the peak" if peak_tflops else ""
        print(f"{'':32}{achieved:10.3f} TFLOP/s of the model's own{share}")
        if loop == "ours" or shape != "flan-t5-small":
            continue
        good &= ratio >= REQUIRED[loop]
        good &= ours["peak_memory_bytes"] < row["peak_memory_bytes"]
        if loop != "notebook":
            good &= ours["validation_loss"] <= row["validation_loss"] * (1 + LOSS_TOLERANCE)
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--shape", default="flan-t5-small", choices=[*SHAPES, "pocket"])
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--warm-up", type=int, default=2)
    parser.add_argument("--effective-batch", type=int, default=32)
    parser.add_argument("--rows", type=int, default=1200)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--loops", nargs="*", default=list(LOOPS), choices=list(LOOPS))
    parser.add_argument(
        "--peak-tflops", type=float, help="the device's peak, to print model FLOP utilisation"
    )
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.steps - options.warm_up < 5:
        parser.error("at least five windows are counted: --steps must be 5 more than --warm-up")

    with tempfile.TemporaryDirectory() as folder:
        model, data = "pocket", "atlas"
        if options.shape != "pocket":
            model, data = f"{folder}/model", f"{folder}/rows.jsonl"
            make_model(Path(model), options.shape, seed=0)
            make_rows(Path(data), options.rows, seed=1)
        workload = Workload(
            model, data, options.effective_batch, options.steps, options.learning_rate
        )
        raw = {
            loop: run_part(LOOPS[loop], "throughput.loops", loop, workload.to_json())
            for loop in options.loops
        }
    found = {
        loop: summarise(result, options.warm_up, options.effective_batch)
        for loop, result in raw.items()
    }
    good = show(options.shape, found, options.peak_tflops)
    out = options.out or ROOT / f"benchmarks/results/train_throughput_{options.shape}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    report = {"machine": platform.platform(terse=True), "cpus": os.cpu_count(), "loops": found}
    out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())

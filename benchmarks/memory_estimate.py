"""The estimate of a training's memory beside the peak of the real one.

    python benchmarks/memory_estimate.py [--cases pocket flan-t5-small ...] [--out FILE.json]

Each case asks `qa-lora train --dry-run` and then runs `qa-lora train` for a few steps, both as
processes of their own; the peak is what the operating system says of the latter (ru_maxrss).
FLAN-T5's shapes have random weights, which is right for memory. Exit code 1 if an estimate is off
by more than 25 %.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from throughput.workload import make_model, make_rows

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks/results/memory_estimate.json"
ALLOWED = 0.25


@dataclass(frozen=True)
class Case:
    """A training whose memory is measured."""

    shape: str
    options: list[str] = field(default_factory=list)


CASES = {
    "pocket": Case("pocket", ["--batch-size", "32", "--max-steps", "12"]),
    "flan-t5-small": Case("flan-t5-small", ["--batch-size", "32"]),
    "flan-t5-small bf16": Case("flan-t5-small", ["--batch-size", "8", "--precision", "bf16"]),
    "flan-t5-small all-linear": Case(
        "flan-t5-small", ["--target-modules", "all-linear", "--lora-r", "32"]
    ),
    "flan-t5-small plain": Case("flan-t5-small", ["--base-dropout"]),
    "flan-t5-base": Case("flan-t5-base", ["--batch-size", "16"]),
}
"""What is asked of the estimate, then other settings of one shape."""
SHORT = [
    "--max-steps", "3", "--validation-rows", "16", "--probe-rows", "0", "--score-rows", "0",
]  # fmt: skip


def command(folder: Path, case: Case) -> list[str]:
    """The words of `qa-lora train`."""
    model, data = "pocket", "atlas"
    if case.shape != "pocket":
        model, data = str(folder / case.shape), str(folder / "rows.jsonl")
        if not Path(model).exists():
            make_model(Path(model), case.shape, seed=0)
        if not Path(data).exists():
            make_rows(Path(data), 1200, seed=1)
    words = [sys.executable, "-m", "qa_lora", "train", "--model", model, "--data", data]
    return [*words, "--runs-dir", str(folder / "runs"), *SHORT, *case.options, "--json"]


def measure(words: list[str]) -> int:
    """Peak resident bytes of a process.

    Raises:
        SystemExit: If it fails; its own message is on stderr by then.
    """
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(words)} ended with exit code {process.returncode}.")
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def estimated(words: list[str]) -> dict[str, Any]:
    """What the dry run says."""
    said = subprocess.run(
        [*words, "--dry-run"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    found: dict[str, Any] = json.loads(said.stdout.splitlines()[-1])
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--folder", type=Path, help="where models and rows are made and kept")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "benchmarks/results/memory_estimate.json"
    )
    options = parser.parse_args()
    rows: dict[str, dict[str, float]] = {}
    print(f"{'case':28}{'estimate GB':>12}{'peak GB':>9}{'off':>8}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        for name in options.cases:
            words = command(folder, CASES[name])
            found = estimated(words)
            middle = sum(part["bytes"] for part in found["parts"])
            peak = measure(words)
            off = middle / peak - 1
            rows[name] = {"estimate_bytes": middle, "peak_bytes": peak, "off": off}
            print(
                f"{name:28}{middle / 1e9:12.2f}{peak / 1e9:9.2f}{off:+8.0%}",
                flush=True,
            )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    report = {"machine": platform.platform(terse=True), "cpus": os.cpu_count(), "cases": rows}
    options.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0 if all(abs(row["off"]) <= ALLOWED for row in rows.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())

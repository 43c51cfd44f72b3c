"""Run ``qa-lora demo`` as a person would and hold its figures against what the project promises.

    python benchmarks/demo.py [--out benchmarks/results/demo.json]

Training seconds are those of the training loop; total seconds are the whole command's, from
process start to exit, imports included. Exit code 1 if a limit is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent


class Figure(NamedTuple):
    name: str
    value: float
    limit: float
    at_most: bool
    unit: str = ""

    @property
    def kept(self) -> bool:
        return self.value <= self.limit if self.at_most else self.value >= self.limit

    def row(self) -> str:
        sign = "<=" if self.at_most else ">="
        value = f"{self.value:.3f}" if not self.unit else f"{self.value:.1f} {self.unit}"
        limit = f"{sign} {self.limit:g} {self.unit}".rstrip()
        return f"{self.name:28} {value:>9}   {limit:<10} {'kept' if self.kept else 'MISSED'}"


def run_demo(runs_dir: str, arguments: list[str]) -> tuple[dict[str, Any], float]:
    """The demo's JSON object, and the seconds the command took.

    Raises:
        SystemExit: If the command fails; its own message is on stderr by then.
    """
    command = [sys.executable, "-m", "qa_lora", "demo", "--json", "--runs-dir", runs_dir]
    began = time.perf_counter()
    process = subprocess.run(
        [*command, *arguments],
        cwd=ROOT,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - began
    if process.returncode:
        raise SystemExit(f"The demo ended with exit code {process.returncode}.")
    result: dict[str, Any] = json.loads(process.stdout.strip().splitlines()[-1])
    return result, seconds


def figures(result: dict[str, Any], seconds: float) -> list[Figure]:
    """What the project promises of the demo on two CPU cores."""
    base, tuned = result["base"], result["tuned"]
    return [
        Figure("training", result["train_seconds"], 120, at_most=True, unit="s"),
        Figure("whole command", seconds, 180, at_most=True, unit="s"),
        Figure("base ROUGE-L", base["rougeL"], 0.35, at_most=True),
        Figure("tuned ROUGE-L", tuned["rougeL"], 0.80, at_most=False),
        Figure("tuned, right fact in answer", tuned["fact_accuracy"], 0.85, at_most=False),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/demo.json")
    options, others = parser.parse_known_args()

    with tempfile.TemporaryDirectory() as runs_dir:
        result, seconds = run_demo(runs_dir, others)
    table = figures(result, seconds)
    gain = result["difference"]["rougeL"]

    print(f"qa-lora demo, {os.cpu_count()} CPUs, {result['rows']} held-out questions")
    for figure in table:
        print(figure.row())
    print(f"{'base, right fact in answer':28} {result['base']['fact_accuracy']:9.3f}")
    print(
        f"{'ROUGE-L difference':28} {gain['mean']:+9.3f}   "
        f"[{gain['low']:.3f}, {gain['high']:.3f}], p = {gain['p_value']:.2g}"
    )

    report = {
        "machine": {
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
            "system": platform.platform(terse=True),
        },
        "whole_command_seconds": round(seconds, 2),
        "figures": [{**figure._asdict(), "kept": figure.kept} for figure in table],
        "demo": result,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0 if all(figure.kept for figure in table) else 1


if __name__ == "__main__":
    raise SystemExit(main())

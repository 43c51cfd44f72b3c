"""Every reader over thousands of made-up and damaged files: rows, or one sentence, nothing else.

    python benchmarks/fuzz_readers.py [--inputs 10000] [--kinds .csv .xlsx ...] [--out FILE.json]

Each reader has a process of its own, so that its peak memory is its own and a crash of a library
is seen. Exit code 1 if a reader did anything else than give rows or refuse.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from reader_inputs import KINDS, inputs, read


def fuzz(kind: str, count: int, number: int) -> dict[str, object]:
    """Give a reader so many different files.

    Args:
        kind: The ending of the files.
        count: How many files.
        number: The seed; another one makes other files.

    Returns:
        What came of it, with seconds and the peak of memory in MB.
    """
    seen = {"inputs": 0, "readable": 0, "rows": 0, "refused": 0}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"any{kind}"

        @seed(number)
        @settings(
            max_examples=count,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(inputs(kind))
        def one(data: bytes) -> None:
            path.write_bytes(data)
            rows = read(path)
            seen["inputs"] += 1
            seen["refused" if rows is None else "readable"] += 1
            seen["rows"] += rows or 0

        began = time.perf_counter()
        one()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds = round(time.perf_counter() - began, 1)
    return {"reader": kind, **seen, "seconds": seconds, "peak_mb": round(peak)}


def main() -> int:
    """Run the readers one after the other and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        print(json.dumps(fuzz(options.kinds[0], options.inputs, options.seed)))
        return 0
    print(f"{'reader':<11}{'inputs':>8}{'readable':>10}{'rows':>8}{'refused':>9}{'s':>8}{'MB':>6}")
    results, failed = [], False
    for kind in options.kinds:
        words = ["--here", "--kinds", kind, "--inputs", str(options.inputs)]
        done = subprocess.run(
            [sys.executable, __file__, *words, "--seed", str(options.seed)],
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode:
            failed = True
            print(f"{kind:<11}FAILED with exit code {done.returncode}", flush=True)
            continue
        found = json.loads(done.stdout.splitlines()[-1])
        results.append(found)
        print(
            f"{kind:<11}{found['inputs']:>8,}{found['readable']:>10,}{found['rows']:>8,}"
            f"{found['refused']:>9,}{found['seconds']:>8}{found['peak_mb']:>6}",
            flush=True,
        )
    if options.out:
        options.out.write_text(json.dumps(results, indent=2) + "\n", "utf-8")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

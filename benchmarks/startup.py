"""How long the app takes from process start to its first HTTP 200, beside eager imports.

    python benchmarks/startup.py [--runs 5] [--out benchmarks/results/startup.json]

Each variant is started once uncounted, so that files are in the page cache, then `--runs` times.
The variants take turns: a machine that slows down slows both. Exit code 1 if the app's median is
over the limit.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import NamedTuple

import psutil

ROOT = Path(__file__).resolve().parent.parent
LIMIT_SECONDS = 3.5
GIVE_UP_SECONDS = 60.0
EAGER = (
    "import torch, transformers, peft, datasets, evaluate, runpy;"
    "runpy.run_path('app.py', run_name='__main__')"
)
VARIANTS = {"app.py": ["app.py"], "the same, imports first": ["-c", EAGER]}


class Start(NamedTuple):
    seconds: float
    memory_bytes: int
    """Resident memory of the process at the first HTTP 200."""


def start_once(arguments: list[str]) -> Start:
    """Start the app, wait for its page, end it.

    Raises:
        RuntimeError: If the process ends or stays silent.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as runs, tempfile.TemporaryFile("w+") as log:
        environment = {
            **os.environ,
            "GRADIO_SERVER_NAME": "127.0.0.1",
            "GRADIO_SERVER_PORT": str(port),
            "GRADIO_ANALYTICS_ENABLED": "False",
            "HF_HUB_OFFLINE": "1",
            "QA_LORA_RUNS_DIR": runs,
        }
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            while not answers(port):
                if process.poll() is not None or time.perf_counter() - began > GIVE_UP_SECONDS:
                    log.seek(0)
                    raise RuntimeError(f"The app did not start:\n{log.read()}")
                time.sleep(0.01)
            seconds = time.perf_counter() - began
            return Start(seconds, psutil.Process(process.pid).memory_info().rss)
        finally:
            process.terminate()
            process.wait(timeout=30)


def answers(port: int) -> bool:
    """Whether the page is served."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/startup.json")
    options = parser.parse_args()

    starts: dict[str, list[Start]] = {name: [] for name in VARIANTS}
    for number in range(options.runs + 1):
        for name, arguments in VARIANTS.items():
            start = start_once(arguments)
            if number:
                starts[name].append(start)

    result = {
        "machine": {
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
            "system": platform.platform(terse=True),
        },
        "limit_seconds": LIMIT_SECONDS,
        "variants": {
            name: {
                "seconds": [round(start.seconds, 3) for start in counted],
                "median_seconds": round(statistics.median(s.seconds for s in counted), 3),
                "median_memory_bytes": int(statistics.median(s.memory_bytes for s in counted)),
            }
            for name, counted in starts.items()
        },
    }
    print(f"Process start to first HTTP 200, {options.runs} runs, {os.cpu_count()} CPUs")
    print(f"{'':26} {'median':>8} {'fastest':>8} {'slowest':>8} {'memory':>8}")
    for name, counted in starts.items():
        seconds = [start.seconds for start in counted]
        memory = statistics.median(start.memory_bytes for start in counted)
        print(
            f"{name:26} {statistics.median(seconds):6.2f} s {min(seconds):6.2f} s "
            f"{max(seconds):6.2f} s {memory / 1e6:5.0f} MB"
        )
    median = statistics.median(start.seconds for start in starts["app.py"])
    within = median <= LIMIT_SECONDS
    print(f"limit {LIMIT_SECONDS} s: {'kept' if within else 'MISSED'}")

    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0 if within else 1


if __name__ == "__main__":
    raise SystemExit(main())

"""Measure how soon a training begins on a data set of the Hub that comes over a slow line.

    python benchmarks/streaming.py [--rows 500000] [--mib-per-second 8]

A Hub on this machine gives a data set of about HC3's lengths at that speed. The bundled model is
trained on it, as fetched whole first and as a stream, each in a process of its own with an empty
cache. The library `datasets` reads the first 15 MiB of JSON Lines twice before it gives a row.

Prints seconds until the first step is done, and how much of the data had come by then. Exit code 1
if, streamed, more than a fifth of the data had come.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any

from data import write_rows

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.loopback_hub import Hub  # noqa: E402
from tests.loopback_hub.server import Handler  # noqa: E402

PIECE = 64 * 1024
MOST_SHARE = 0.2
REPO = "someone/long"


class Line:
    """A line that all connections share."""

    def __init__(self, bytes_per_second: float) -> None:
        self.bytes_per_second = bytes_per_second
        self.sent = 0
        self._free_at = 0.0
        self._lock = Lock()

    def wait(self, size: int) -> None:
        """Until so many bytes are through."""
        with self._lock:
            self.sent += size
            self._free_at = max(time.monotonic(), self._free_at) + size / self.bytes_per_second
            until = self._free_at
        time.sleep(max(0.0, until - time.monotonic()))


def serve(path: Path, line: Line) -> ThreadingHTTPServer:
    """A Hub that gives one data set over the line."""

    class Slow:
        def __init__(self, file: Any) -> None:
            self.file = file

        def write(self, data: bytes) -> int:
            for start in range(0, len(data), PIECE):
                piece = data[start : start + PIECE]
                line.wait(len(piece))
                self.file.write(piece)
            return len(data)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

    class Here(Handler):
        hub = Hub()

        def setup(self) -> None:
            super().setup()
            self.wfile: Any = Slow(self.wfile)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Here)
    Here.hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    Here.hub.add("dataset", REPO, {"train.jsonl": path.read_bytes()})
    Thread(target=server.serve_forever, daemon=True).start()
    return server


def measure(way: str, rows: int, address: str, line: Line, folder: Path) -> dict[str, float]:
    """Seconds, and bytes over the line, until the first step of a training is done."""
    line.sent = 0
    began = time.monotonic()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "qa_lora", "train", "--runs-dir", str(folder / way)),
            *("--data", f"{REPO} rows={rows}", "--max-steps", "20", "--score-rows", "0"),
            *(["--streaming"] if way == "streamed" else []),
        ],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        env={
            **os.environ,
            "HF_ENDPOINT": address,
            "HF_HOME": str(folder / f"{way}-cache"),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        },
    )
    figures: dict[str, float] = {}
    while process.poll() is None and not figures:
        for log in (folder / way).glob("*/events.jsonl"):
            if '"type": "step"' in log.read_text("utf-8"):
                figures = {"first_step_seconds": time.monotonic() - began, "sent": line.sent}
        time.sleep(0.05)
    if process.wait() or not figures:
        raise SystemExit(f"The training did not get to its first step ({way}).")
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--mib-per-second", type=float, default=8.0)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/streaming.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "train.jsonl"
        write_rows(path, options.rows)
        size = path.stat().st_size
        line = Line(options.mib_per_second * 1024**2)
        server = serve(path, line)
        address = f"http://127.0.0.1:{server.server_address[1]}"
        print(
            f"{options.rows:,} rows, {size / 1024**2:,.0f} MiB at {options.mib_per_second:g} MiB/s"
        )
        found = {
            way: measure(way, options.rows, address, line, folder)
            for way in ("streamed", "fetched")
        }
        server.shutdown()
    print(f"{'way':10}{'first step after':>18}{'of the data by then':>22}")
    for way, figures in found.items():
        figures["share"] = min(1.0, figures["sent"] / size)
        print(f"{way:10}{figures['first_step_seconds']:16.1f} s{figures['share']:22.1%}")
    options.out.parent.mkdir(exist_ok=True)
    figures_of = {"rows": options.rows, "bytes": size, **found}
    options.out.write_text(json.dumps(figures_of, indent=2) + "\n")
    return 0 if found["streamed"]["share"] <= MOST_SHARE else 1


if __name__ == "__main__":
    sys.exit(main())

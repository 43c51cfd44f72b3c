"""A part of a benchmark in a process of its own, so that no part warms up or fills another's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

__all__ = ["run_part"]

HERE = Path(__file__).resolve().parent


def run_part(name: str, module: str, *arguments: str) -> Any:
    """What a module prints as its last line, a JSON value.

    Args:
        name: What the part is called, should it fail.
        module: Of the benchmarks.
        arguments: For it.

    Raises:
        SystemExit: If it fails; its own message is on stderr by then.
    """
    process = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=HERE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent), *sys.path])},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if process.returncode:
        raise SystemExit(f"{name} ended with exit code {process.returncode}.")
    return json.loads(process.stdout.strip().splitlines()[-1])

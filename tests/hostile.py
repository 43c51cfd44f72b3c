"""What somebody with bad intentions sends where the page would send a value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["as_json", "counts", "values"]

HTML = "<img src=x onerror=alert(1)><script>alert(1)</script>"
BIG = 10**30


def values(canary: Path, run_id: str, run: Path, address: str) -> list[Any]:
    """Values of every shape.

    Args:
        canary: A file that nobody may read.
        run_id: A run of somebody else.
        run: Its folder.
        address: Of a server that nobody may be led to.
    """
    upload = {"meta": {"_type": "gradio.FileData"}, "orig_name": "../../x.csv"}
    return [
        None, True, 0, -1, BIG, -BIG, 1e308, float("nan"), float("inf"), 0.5,
        "", " ", "../../../../../../etc/passwd", "/etc/passwd", str(canary), str(canary.parent),
        f"file://{canary}", run_id, str(run), f"../{run.parent.name}/{run_id}", f"{run}/adapter",
        "a\0b", "\ud800", "\x1b]0;x\x07\x1b[31m", "a\nb\rc\u2028d", HTML, "=1+1", "x" * 70_000,
        f"{address}/x.csv", "http://169.254.169.254/latest", "%2e%2e%2f", "~root", "C:\\x", "٣",
        [], {}, [[]], [None], [HTML], [run_id, str(canary)], {"a": HTML}, [["a", "b"]], [[[[1]]]],
        {"path": str(canary)}, {"path": str(canary), **upload}, [{"path": str(canary), **upload}],
        {"path": str(run / "config.yaml"), **upload}, {"path": "", **upload},
        {"path": "a\0b", **upload}, {"path": None, **upload}, {"path": 7, "url": 7, **upload},
        {"path": f"{address}/x.csv", **upload}, {"path": "x", "url": f"{address}/x", **upload},
        {"path": str(canary), "is_stream": True, **upload}, {"meta": {"_type": "gradio.FileData"}},
        {"__type__": "update", "value": str(canary)}, {"headers": ["a"], "data": [[HTML]]},
        {"headers": None, "data": 7, "metadata": []}, [{"role": "user", "content": HTML}],
        [{"role": "user", "content": {"path": str(canary)}}], nested(40),
    ]  # fmt: skip


def nested(depth: int) -> Any:
    value: Any = HTML
    for _ in range(depth):
        value = [value]
    return value


def counts(right: list[Any]) -> list[Any]:
    """The wrong number of arguments, or none at all."""
    return [[], right[:-1], [*right, *right, 1], None, {}, "abc", 7]


def as_json(body: Any) -> bytes:
    """As no strict client would write it: NaN, and halves of surrogate pairs."""
    return json.dumps(body, allow_nan=True).encode("ascii")

"""What somebody with bad intentions sends where the page would send a value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["HTML", "as_json", "counts", "values"]

HTML = "<img src=x onerror=alert(1)><script>alert(1)</script>"
BIG = 10**30


def values(canary: Path, run: Path, address: str) -> list[Any]:
    """Values of every shape.

    Args:
        canary: A file that nobody may read.
        run: The folder of somebody else's run.
        address: Of a server that this one must not be led to.
    """
    kind = {"meta": {"_type": "gradio.FileData"}, "orig_name": "../../x.csv"}
    return [
        str(canary), {"path": str(canary), **kind}, None, 1e308, "../../../../../etc/passwd",
        {"path": f"{address}/x.csv", **kind}, [HTML], "a\0b", run.name, {"a": HTML}, -1, HTML,
        [{"path": str(canary), **kind}], "x" * 20_000, float("nan"), str(run), [[]], BIG, True,
        {"path": str(run / "config.yaml"), **kind}, f"file://{canary}", "", [run.name], 0.5,
        {"path": "x", "url": f"{address}/x", **kind}, "\x1b]0;x\x07\x1b[31m", {}, float("inf"),
        {"path": str(canary)}, "=1+1", {"path": "", **kind}, f"{address}/x.csv", [None], -BIG, [],
        {"path": str(canary), "is_stream": True, **kind}, "a\nb\rc\u2028d", {"path": None, **kind},
        {"__type__": "update", "value": str(canary)}, {"headers": ["a"], "data": [[HTML]]}, "/etc",
        {"headers": None, "data": 7, "metadata": []}, f"../{run.parent.name}/{run.name}", "~root",
        [{"role": "user", "content": {"path": str(canary)}}], f"{run}/adapter", "%2e%2e%2f", "٣",
        {"path": "a\0b", **kind}, nested(40), {"path": 7, "url": 7, **kind}, [["a", "b"]], " ",
        "http://169.254.169.254/latest", kind, [run.name, str(canary)], 0, str(canary.parent),
    ]  # fmt: skip


def nested(depth: int) -> Any:
    """A text in many lists."""
    value: Any = HTML
    for _ in range(depth):
        value = [value]
    return value


def counts(right: list[Any]) -> list[Any]:
    """The wrong number of arguments, and what is no list of them."""
    return [[], right[:-1], [*right, *right, 1], None, {}, "abc", 7]


def as_json(body: Any) -> bytes:
    """As no strict client would write it: with NaN, and halves of surrogate pairs."""
    return json.dumps(body, allow_nan=True).encode("ascii")

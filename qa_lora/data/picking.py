"""Which rows of several sources are used when not all are: spread evenly, so that each has a share.

A stream cannot be spread over: of it, the first rows are used.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from itertools import count

from qa_lora.data.parts import Part

__all__ = ["counted", "picks"]


def counted(parts: Sequence[Part]) -> list[Part]:
    """The parts with their rows counted, reading those through of which it is not known."""
    return [
        part
        if part.rows is not None
        else dataclasses.replace(part, rows=sum(1 for _ in part.table.rows()))
        for part in parts
    ]


def picks(
    lengths: Sequence[int | None], limits: Sequence[int | None], max_rows: int | None
) -> list[Iterator[int]]:
    """For each source, the 0-based numbers of the rows to use, rising.

    Args:
        lengths: Rows of each source; None for a stream, or where nothing is limited.
        limits: At most this many rows of each source.
        max_rows: At most this many rows of all together.
    """
    if not any(limits) and not max_rows:
        return [count() for _ in lengths]
    sizes = [
        min(size for size in (length, limit, max_rows if length is None else None) if size)
        for length, limit in zip(lengths, limits, strict=True)
    ]
    everything = sum(sizes)
    wanted = min(everything, max_rows or everything)
    found: list[Iterator[int]] = []
    start = 0
    for length, size in zip(lengths, sizes, strict=True):
        # Those of the evenly spread numbers i * everything // wanted that fall into this source.
        first, last = (-(-edge * wanted // everything) for edge in (start, start + size))
        if length is None:
            found.append(iter(range(last - first)))
        else:
            found.append(_spread(range(first, last), everything, wanted, start, length, size))
        start += size
    return found


def _spread(
    numbers: range, everything: int, wanted: int, start: int, length: int, size: int
) -> Iterator[int]:
    return ((i * everything // wanted - start) * length // size for i in numbers)

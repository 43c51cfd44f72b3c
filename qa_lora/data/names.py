"""A long list of few different values, such as the source of each of a million rows."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import TypeVar, overload

__all__ = ["NameList"]

T = TypeVar("T")


class NameList(Sequence[T]):
    """A list that takes four bytes an item, whatever the items are; items are appended only."""

    def __init__(self) -> None:
        self._codes: dict[T, int] = {}
        self._values: list[T] = []
        self._items = array("I")

    @classmethod
    def of(cls, values: Sequence[T], codes: array[int]) -> NameList[T]:
        """The list that has these :attr:`values` and :attr:`codes`.

        Raises:
            ValueError: If a code stands for no value.
        """
        made = cls()
        made._values = list(values)
        made._codes = {value: code for code, value in enumerate(values)}
        made._items = codes
        if made._items and max(made._items) >= len(values):
            raise ValueError("a code stands for no value")
        return made

    @property
    def values(self) -> list[T]:
        """The different items."""
        return list(self._values)

    @property
    def codes(self) -> array[int]:
        """For each item, which of the values it is."""
        return self._items

    def append(self, value: T) -> None:
        """Add an item at the end."""
        code = self._codes.setdefault(value, len(self._values))
        if code == len(self._values):
            self._values.append(value)
        self._items.append(code)

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return [self._values[code] for code in self._items[index]]
        return self._values[self._items[index]]

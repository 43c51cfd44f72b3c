"""What reading the data gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from qa_lora.data.columns import ColumnMap
from qa_lora.data.example import QAExample
from qa_lora.data.reading import Dropped, SourceRead
from qa_lora.data.split import fingerprint

__all__ = ["LoadedData"]


@dataclass(frozen=True)
class LoadedData:
    """The usable examples of all sources, and what became of the rest."""

    examples: Sequence[QAExample]
    columns: ColumnMap
    """Of the first source."""
    column_names: tuple[str, ...]
    """All columns of all sources, for a form that offers them."""
    dropped: Sequence[Dropped]
    rows_read: int
    """Rows looked at: all there are, or as many as were asked for."""
    rows_in_source: int
    splits: Sequence[str | None]
    """train, validation or test, where the source says it, for each example."""
    rows: Sequence[int]
    """The 1-based row of its file that each example comes from."""
    files: Sequence[str]
    """The file or Hub split that each example comes from, by a name that no other has."""
    origins: Sequence[str]
    """The source that each example comes from, by the name in `sources`."""
    sources: tuple[SourceRead, ...]
    source: str
    """Short name of all together, for messages and reports."""

    @property
    def form(self) -> str:
        """What the rows were recognised as, for people."""
        return " and ".join(dict.fromkeys(source.form for source in self.sources))

    @property
    def given(self) -> bool:
        """Whether the sources themselves say which row is on which side."""
        return any(side is not None for side in self.splits)

    @cached_property
    def fingerprint(self) -> str:
        """Of all examples, whatever their order."""
        return fingerprint(self.examples)

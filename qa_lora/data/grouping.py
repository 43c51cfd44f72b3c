"""Examples by question, in arrays: a million questions as texts would fill the memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from qa_lora.data.example import QAExample, question_key
from qa_lora.data.store import CHUNK, read_many

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from qa_lora.data.near import NearPairs

    Numbers = npt.NDArray[np.int64]

__all__ = ["Questions", "content_of", "start_key"]


@dataclass(frozen=True)
class Questions:
    """The rows of some examples by question; questions are in the order of their digests."""

    order: Numbers
    """The rows, those of a question together."""
    starts: Numbers
    """Where each question begins in `order`."""
    digests: npt.NDArray[np.uint64]
    """Of the seed and each row's question, (rows, 2): 16 bytes instead of a text."""
    has_more: bool
    """Whether any question has a passage or earlier turns."""
    has_turns: bool
    """Whether any question has earlier turns."""

    @classmethod
    def of(cls, examples: Sequence[QAExample], seed: int) -> Questions:
        """Group examples by question; the seed is that of :meth:`seeded`."""
        import numpy as np

        plain, seeded = bytearray(), bytearray()
        has_more = has_turns = False
        for example in examples:
            key = question_key(example.question, example.context, example.history)
            plain += _digest(key)
            seeded += _digest(f"{seed}\n{key}")
            has_turns = has_turns or bool(example.history)
            has_more = has_more or has_turns or bool(example.context)
        digests, others = (
            np.frombuffer(data, ">u8").astype(np.uint64).reshape(-1, 2) for data in (plain, seeded)
        )
        order = np.lexsort((digests[:, 1], digests[:, 0]))
        ordered = digests[order]
        new = np.ones(len(order), np.bool_)
        new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
        return cls(order, np.flatnonzero(new), others, has_more, has_turns)

    @property
    def sizes(self) -> Numbers:
        """Rows of each question."""
        import numpy as np

        return np.diff(np.append(self.starts, len(self.order)))

    @property
    def first_rows(self) -> Numbers:
        """One row of each question."""
        return self.order[self.starts]

    def seeded(self, questions: Numbers) -> npt.NDArray[np.uint64]:
        """The digests of the seed and these questions, (questions, 2)."""
        return self.digests[self.first_rows[questions]]

    def near(self, examples: Sequence[QAExample], rows: Numbers, threshold: float) -> NearPairs:
        """Which of these rows' questions are near."""
        from qa_lora.data.near import find

        questions = _Column(examples, rows, lambda example: example.question)
        return find(
            questions, threshold, beside=_Column(examples, rows, _beside) if self.has_more else None
        )

    def turns(self, examples: Sequence[QAExample], rows: Numbers) -> NearPairs:
        """Which of these rows' questions belong together as turns of one chat.

        The history of a later turn holds the answer to an earlier one, so that they may not be
        divided. Chats that begin with the same question belong together with it.
        """
        import numpy as np

        from qa_lora.data.near import NearPairs

        pairs = []
        begun: dict[bytes, int] = {}
        for at, example in enumerate(_read(examples, rows) if self.has_turns else ()):
            first = begun.setdefault(_digest(start_key(example)), at)
            if first != at:
                pairs.append((first, at))
        first_second = np.array(pairs, np.int64).reshape(-1, 2)
        return NearPairs(first_second[:, 0], first_second[:, 1], np.ones(len(pairs)))

    def sorted_within(self, examples: Sequence[QAExample]) -> Numbers:
        """`order`, with the rows of one question in the order of their content."""
        order = self.order.copy()
        sizes = self.sizes
        several = (sizes > 1).nonzero()[0]
        # So many questions at a time that their rows fill a chunk.
        ends = sizes[several].cumsum() // CHUNK
        for chunk in range(int(ends[-1]) + 1 if len(ends) else 0):
            questions = several[ends == chunk].tolist()
            rows = [order[self.starts[at] : self.starts[at] + sizes[at]] for at in questions]
            numbers = list(chain.from_iterable(part.tolist() for part in rows))
            contents = dict(
                zip(numbers, map(content_of, read_many(examples, numbers)), strict=True)
            )
            for part in rows:
                part[:] = sorted(part.tolist(), key=contents.__getitem__)
        return order


class _Column(Sequence[str]):
    """One text of each of some examples, read a chunk at a time: best asked for in order."""

    def __init__(
        self, examples: Sequence[QAExample], rows: Numbers, text: Callable[[QAExample], str]
    ) -> None:
        self.examples = examples
        self.rows = rows
        self.text = text
        self.first = 0
        self.texts: list[str] = []

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, at: Any) -> Any:
        if not self.first <= at < self.first + len(self.texts):
            rows = self.rows[at : at + CHUNK].tolist()
            self.first = at
            self.texts = [self.text(example) for example in read_many(self.examples, rows)]
        return self.texts[at - self.first]


def _read(examples: Sequence[QAExample], rows: Numbers) -> Iterator[QAExample]:
    for start in range(0, len(rows), CHUNK):
        yield from read_many(examples, rows[start : start + CHUNK].tolist())


def _beside(example: QAExample) -> str:
    """What belongs to a question beside itself."""
    return "\n".join([example.context, *(turn for pair in example.history for turn in pair)])


def start_key(example: QAExample) -> str:
    """What all turns of a chat have in common: the key of the question that it begins with."""
    start = example.history[0][0] if example.history else example.question
    return question_key(start, example.context)


def content_of(example: QAExample) -> str:
    """All that a model can learn from an example, as one text."""
    return json.dumps([example.question, example.context, example.answer, example.history])


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).digest()[:16]

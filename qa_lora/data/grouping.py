"""Examples by question, in arrays: a million questions as texts would fill the memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qa_lora.data.example import QAExample, question_key

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from qa_lora.data.near import NearPairs

    Numbers = npt.NDArray[np.int64]

__all__ = ["Questions", "content_of"]


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

    @classmethod
    def of(cls, examples: Sequence[QAExample], seed: int) -> Questions:
        """Group examples by question; the seed is that of :meth:`seeded`."""
        import numpy as np

        plain, seeded = bytearray(), bytearray()
        has_more = False
        for example in examples:
            key = question_key(example.question, example.context, example.history)
            plain += _digest(key)
            seeded += _digest(f"{seed}\n{key}")
            has_more = has_more or bool(example.context or example.history)
        digests, others = (
            np.frombuffer(data, ">u8").astype(np.uint64).reshape(-1, 2) for data in (plain, seeded)
        )
        order = np.lexsort((digests[:, 1], digests[:, 0]))
        ordered = digests[order]
        new = np.ones(len(order), np.bool_)
        new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
        return cls(order, np.flatnonzero(new), others, has_more)

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

    def sorted_within(self, examples: Sequence[QAExample]) -> Numbers:
        """`order`, with the rows of one question in the order of their content."""
        order = self.order.copy()
        sizes = self.sizes
        for at in (sizes > 1).nonzero()[0].tolist():
            here = slice(int(self.starts[at]), int(self.starts[at] + sizes[at]))
            order[here] = sorted(order[here].tolist(), key=lambda row: content_of(examples[row]))
        return order


class _Column(Sequence[str]):
    """One text of each of some examples, made when it is asked for."""

    def __init__(
        self, examples: Sequence[QAExample], rows: Numbers, text: Callable[[QAExample], str]
    ) -> None:
        self.examples = examples
        self.rows = rows
        self.text = text

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, at: Any) -> Any:
        return self.text(self.examples[int(self.rows[at])])


def _beside(example: QAExample) -> str:
    """What belongs to a question beside itself."""
    return "\n".join([example.context, *(turn for pair in example.history for turn in pair)])


def content_of(example: QAExample) -> str:
    """All that a model can learn from an example, as one text."""
    return json.dumps([example.question, example.context, example.answer, example.history])


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).digest()[:16]

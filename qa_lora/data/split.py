"""Examples -> train, validation and test, so that no question stands on two sides."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from qa_lora.data.example import QAExample, question_key
from qa_lora.errors import DataError

__all__ = ["DataSplit", "Removed", "fingerprint", "split_examples"]

SIDES = ("train", "validation", "test")


@dataclass(frozen=True)
class Removed:
    """An example that a given split would have on two sides, and that was taken out."""

    id: str
    reason: str


@dataclass(frozen=True)
class DataSplit:
    """Three sides without a common question.

    Each side is in an order that depends only on its questions, and is as good as random: its
    first N are a fair sample of it, the same ones in every run.
    """

    train: Sequence[QAExample]
    validation: Sequence[QAExample]
    test: Sequence[QAExample]
    fingerprint: str
    """Of the test side: equal if and only if two splits hold out the same rows."""
    removed: tuple[Removed, ...] = ()


def split_examples(
    examples: Sequence[QAExample],
    *,
    validation_fraction: float,
    test_fraction: float,
    seed: int,
    given: Sequence[str | None] | None = None,
    source: str = "The data",
) -> DataSplit:
    """Divide examples by question: all answers to one question stand on one side.

    The result does not depend on the order of the examples, on the process or on the version of
    Python: questions are ordered by a hash of the seed and their normalised text.

    Args:
        examples: All usable examples.
        validation_fraction: Share of the different questions for validation; at least one question.
        test_fraction: Share for test; at least one question.
        seed: Another seed, another division.
        given: The side that the source itself names for each example (train, validation, test; None
            counts as train). It is kept; a side it does not name is taken from its training
            questions; a question it has on two sides leaves the one that is nearer to training.
        source: What the data is called in messages.

    Raises:
        DataError: If there are too few different questions for three sides.
    """
    groups: dict[str, list[int]] = {}
    keys = [question_key(e.question, e.context, e.history) for e in examples]
    for index, key in enumerate(keys):
        groups.setdefault(key, []).append(index)
    sides: list[str | None] = list(given) if given is not None else [None] * len(examples)
    if len(sides) != len(examples):
        raise ValueError(f"{len(sides)} given sides for {len(examples)} examples")
    # A question's side is the one furthest from training that any of its rows has.
    side_of = {
        key: max((sides[i] or "train" for i in rows), key=SIDES.index)
        for key, rows in groups.items()
    }
    in_training = [key for key, side in side_of.items() if side == "train"]
    in_training.sort(key=lambda key: _digest(f"{seed}\n{key}"))
    missing = [side for side in ("test", "validation") if side not in side_of.values()]
    if len(in_training) < len(missing) + 1:
        raise _too_few(len(groups), len(in_training), missing, source)
    fractions = {"validation": validation_fraction, "test": test_fraction}
    sizes = {side: max(1, round(len(in_training) * fractions[side])) for side in missing}
    while sum(sizes.values()) >= len(in_training):
        sizes[max(sizes, key=lambda side: sizes[side])] -= 1
    start = 0
    for side, size in sizes.items():
        side_of.update(dict.fromkeys(in_training[start : start + size], side))
        start += size

    parts: dict[str, list[QAExample]] = {side: [] for side in SIDES}
    removed = []
    for key in sorted(groups, key=_digest):
        side = side_of[key]
        rows = []
        for i in groups[key]:
            own = sides[i] or "train"
            if own == side or side in sizes:
                rows.append(examples[i])
            else:
                removed.append(Removed(examples[i].id, f"{own} question that stands in {side} too"))
        parts[side] += sorted(rows, key=_content)
    return DataSplit(
        train=tuple(parts["train"]),
        validation=tuple(parts["validation"]),
        test=tuple(parts["test"]),
        fingerprint=fingerprint(parts["test"]),
        removed=tuple(removed),
    )


def fingerprint(examples: Iterable[QAExample]) -> str:
    """A short name for the content of these examples, whatever their order and ids."""
    digest = hashlib.sha256()
    for row in sorted(_content(example) for example in examples):
        digest.update(row.encode())
        digest.update(b"\n")
    return digest.hexdigest()[:16]


def _content(example: QAExample) -> str:
    return json.dumps([example.question, example.context, example.answer, example.history])


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).digest()


def _too_few(questions: int, training: int, missing: Sequence[str], source: str) -> DataError:
    if questions == training:
        counted = f"{questions} different question{'' if questions == 1 else 's'}"
        return DataError(
            f"{source} holds {counted}, and needs at least 3: "
            "one each to train on, to validate and to test.",
            "Add rows with other questions.",
        )
    needed = len(missing) + 1
    return DataError(
        f"{source}: the split column leaves {training} question{'' if training == 1 else 's'} "
        f"for training, and needs at least {needed}.",
        "Mark more rows as train, or remove the split column.",
    )

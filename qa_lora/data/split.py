"""Examples -> train, validation and test, so that no question stands on two sides."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from qa_lora.data.example import QAExample
from qa_lora.data.grouping import Questions, content_of
from qa_lora.data.store import pick, read_many
from qa_lora.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from qa_lora.data.near import NearPairs

    Numbers = npt.NDArray[np.int64]

__all__ = [
    "DataSplit",
    "Overlap",
    "Overlaps",
    "Removed",
    "cut",
    "fingerprint",
    "overlaps",
    "split_examples",
]

SIDES = ("train", "validation", "test")

SMALL_CLUSTER = 10  # questions; one of up to so many is kept whole, however small a side is
RECUTS = 4  # times that the threshold goes half of the way to 1
MOST_OVERLAPS = 1000


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
    notes: tuple[str, ...] = ()
    """Sentences on what a person should know about this division."""
    to_come: int = 0
    """About how many more rows there are to train on, which were not read."""


@dataclass(frozen=True)
class Overlap:
    """Two questions on two sides that are equal or near; `side` is the one nearer to training."""

    side: str
    id: str
    question: str
    other_side: str
    other_id: str
    other_question: str
    similarity: float
    """1 where they are equal but for case, punctuation and space; else below it."""


class Overlaps(list[Overlap]):
    """The overlaps that are shown, most alike first, and how many there are in all."""

    def __init__(self, shown: Iterable[Overlap], total: int) -> None:
        super().__init__(shown)
        self.total = total


def split_examples(
    examples: Sequence[QAExample],
    *,
    validation_fraction: float,
    test_fraction: float,
    seed: int,
    given: Sequence[str | None] | None = None,
    source: str = "The data",
    near_duplicates: float | None = None,
) -> DataSplit:
    """Divide examples by question: all answers to one question stand on one side.

    Questions that are near, and what is near to those, stand on one side as well, and so do the
    turns of one chat, unless the source itself puts them on two. The result does not depend on the
    order of the examples, on the process or on the version of Python: groups of such questions are
    ordered by a hash of the seed and the normalised text of one of them.

    Args:
        examples: All usable examples.
        validation_fraction: Share of the different questions for validation; at least one question.
        test_fraction: Share for test; at least one question.
        seed: Another seed, another division.
        given: The side that the source itself names for each example (train, validation, test; None
            counts as train). It is kept; a side it does not name is taken from its training
            questions; a question it has on two sides leaves the one that is nearer to training.
        source: What the data is called in messages.
        near_duplicates: Questions at least this much alike are near (see
            :func:`qa_lora.data.near.find`); None lets only equal ones count.

    Raises:
        DataError: If there are too few different questions for three sides.
    """
    import numpy as np

    from qa_lora.data.near import clusters

    if given is not None and len(given) != len(examples):
        raise ValueError(f"{len(given)} given sides for {len(examples)} examples")
    rows = Questions.of(examples, seed)
    own = np.zeros(len(examples), np.int8)
    if given is not None:
        own = np.fromiter((SIDES.index(side or "train") for side in given), np.int8, len(examples))
    # A question's side is the one furthest from training that any of its rows has.
    side_of = np.zeros(len(rows.starts), np.int8)
    if len(examples):
        side_of = np.maximum.reduceat(own[rows.order], rows.starts)
    in_training = np.flatnonzero(side_of == 0)
    missing = [side for side in ("test", "validation") if SIDES.index(side) not in side_of]
    if len(in_training) < len(missing) + 1:
        raise _too_few(len(side_of), len(in_training), missing, source)

    notes: list[str] = []
    if missing:
        fractions = {"validation": validation_fraction, "test": test_fraction}
        wanted = _wanted(len(in_training), {side: fractions[side] for side in missing})
        units = np.arange(len(in_training))
        pairs = rows.turns(examples, rows.first_rows[in_training])
        if near_duplicates is not None:
            near = rows.near(examples, rows.first_rows[in_training], near_duplicates)
            limit = max(SMALL_CLUSTER, min(wanted.values()) // 2)
            units, notes = cut(len(in_training), near.and_(pairs), near_duplicates, limit)
        elif len(pairs):
            units = np.array(clusters(len(in_training), pairs), np.int64)
        different = len(np.unique(units))
        if different < len(missing) + 1:
            raise _too_alike(len(in_training), different, source)
        chosen = _fill(units, rows.seeded(in_training[units]), wanted)
        for side, members in chosen.items():
            side_of[in_training[members]] = SIDES.index(side)

    side_of_row = np.repeat(side_of, rows.sizes)
    filled = [SIDES.index(side) for side in missing]
    order = rows.sorted_within(examples)
    stays = (own[order] == side_of_row) | np.isin(side_of_row, filled)
    parts = [pick(examples, order[stays & (side_of_row == at)].tolist()) for at in range(3)]
    return DataSplit(
        train=parts[0],
        validation=parts[1],
        test=parts[2],
        fingerprint=fingerprint(parts[2]),
        removed=tuple(
            Removed(
                examples[row].id,
                f"{SIDES[own[row]]} question that stands in {SIDES[side]} too",
            )
            for row, side in zip(order[~stays].tolist(), side_of_row[~stays], strict=True)
        ),
        notes=tuple(notes),
    )


def overlaps(split: DataSplit, threshold: float | None, limit: int = MOST_OVERLAPS) -> Overlaps:
    """The questions that stand on two sides, equal or near, such as a source's own split can have.

    Args:
        split: The three sides.
        threshold: The least similarity of near questions; None looks for equal ones only.
        limit: At most so many are given, the most alike first; `total` counts all that were found.
            Of a large group of near questions not every pair is looked at.
    """
    import numpy as np

    examples = _Joined([split.train, split.validation, split.test])
    rows = Questions.of(examples, 0)
    side_of_row = np.repeat(np.arange(3), [len(part) for part in examples.parts])
    # One row of each question and side will do.
    keys = np.repeat(np.arange(len(rows.starts)), rows.sizes) * 3 + side_of_row[rows.order]
    _, firsts = np.unique(keys, return_index=True)
    which = np.sort(rows.order[firsts])
    pairs = rows.near(examples, which, 1.0 if threshold is None else threshold)
    across = side_of_row[which[pairs.first]] != side_of_row[which[pairs.second]]
    first, second = which[pairs.first[across]], which[pairs.second[across]]
    similarity = pairs.similarity[across]
    shown = []
    for at in np.lexsort((second, first, -similarity))[:limit].tolist():
        one, other = examples[int(first[at])], examples[int(second[at])]
        shown.append(
            Overlap(
                side=SIDES[side_of_row[first[at]]],
                id=one.id,
                question=one.question,
                other_side=SIDES[side_of_row[second[at]]],
                other_id=other.id,
                other_question=other.question,
                similarity=float(similarity[at]),
            )
        )
    return Overlaps(shown, len(first))


def fingerprint(examples: Iterable[QAExample]) -> str:
    """A short name for the content of these examples, whatever their order and ids."""
    digest = hashlib.sha256()
    for row in sorted(content_of(example) for example in examples):
        digest.update(row.encode())
        digest.update(b"\n")
    return digest.hexdigest()[:16]


class _Joined(Sequence[QAExample]):
    """Several sequences as one."""

    def __init__(self, parts: Sequence[Sequence[QAExample]]) -> None:
        self.parts = parts

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __getitem__(self, at: Any) -> Any:
        for part in self.parts:
            if at < len(part):
                return part[at]
            at -= len(part)
        raise IndexError(at)

    def __iter__(self) -> Iterator[QAExample]:
        return chain.from_iterable(self.parts)

    def many(self, indices: Sequence[int]) -> list[QAExample]:
        """Those with these indices, read together."""
        found: dict[int, QAExample] = {}
        first = 0
        for part in self.parts:
            own = [at for at in indices if first <= at < first + len(part)]
            examples = read_many(part, [at - first for at in own])
            found.update(zip(own, examples, strict=True))
            first += len(part)
        return [found[at] for at in indices]


def _wanted(questions: int, fractions: dict[str, float]) -> dict[str, int]:
    """How many questions each side gets that is taken from training; one is left at least."""
    sizes = {side: max(1, round(questions * share)) for side, share in fractions.items()}
    while sum(sizes.values()) >= questions:
        sizes[max(sizes, key=lambda side: sizes[side])] -= 1
    return sizes


def cut(count: int, pairs: NearPairs, threshold: float, limit: int) -> tuple[Numbers, list[str]]:
    """For each question the first one of its cluster, and what there is to say about it.

    Near is not transitive: over many steps a chain can join what has nothing in common, and one
    that holds most questions would leave none to hold out. So clusters of more than `limit`
    questions are cut by a stricter threshold.
    """
    import numpy as np

    from qa_lora.data.near import clusters

    labels = np.array(clusters(count, pairs), np.int64)
    largest = int(np.bincount(labels).max())
    if largest <= limit:
        return labels, []
    for _ in range(RECUTS):
        threshold = (1 + threshold) / 2
        large = np.bincount(labels)[labels] > limit
        pairs = pairs.where(~large[pairs.first] | (pairs.similarity >= threshold))
        labels = np.array(clusters(count, pairs), np.int64)
        left = int(np.bincount(labels).max())
        if left <= limit:
            break
    note = f"{largest:,} questions hang together as near-duplicates, each like some other one"
    if left < largest:
        note += f"; they were divided where less than {threshold:.0%} alike".replace("%", " %")
    if left > limit:
        note += f"; {left:,} of them stay together"
    return labels, [note + "."]


def _fill(
    units: Numbers, digests: npt.NDArray[np.uint64], wanted: dict[str, int]
) -> dict[str, Numbers]:
    """The questions of each side, by whole clusters.

    In the order of the digests each cluster that still fits is taken, so that a side has as many
    questions as it should wherever there are clusters small enough.

    Args:
        units: For each question the first one of its cluster.
        digests: For each question that of the first one of its cluster, (questions, 2).
        wanted: Questions for each side.
    """
    import numpy as np

    names, sizes = np.unique(units, return_counts=True)
    order = np.lexsort((digests[names, 1], digests[names, 0]))
    waiting = list(zip(names[order].tolist(), sizes[order].tolist(), strict=True))
    chosen = {}
    for at, (side, number) in enumerate(wanted.items()):
        most = len(waiting) - (len(wanted) - at)  # clusters; each other side needs one, too
        taken: set[int] = set()
        for name, size in waiting:
            if number <= 0 or len(taken) == most:
                break
            if size <= number:
                taken.add(name)
                number -= size
        if not taken:
            taken.add(min(waiting, key=lambda unit: unit[1])[0])
        waiting = [unit for unit in waiting if unit[0] not in taken]
        chosen[side] = np.flatnonzero(np.isin(units, list(taken)))
    return chosen


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


def _too_alike(questions: int, different: int, source: str) -> DataError:
    return DataError(
        f"{source}: {questions:,} questions are so much alike that they make only {different} "
        f"group{'' if different == 1 else 's'} of near-duplicates, too few for the sides of a "
        "split.",
        "Add rows with other questions, or raise near_duplicates or leave it empty.",
    )

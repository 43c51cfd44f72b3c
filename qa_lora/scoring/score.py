"""Answers and references to numbers: ROUGE, exact match, token F1, BLEU, chrF.

Each text is split into words once for all metrics, and overlaps are counted for many answers at
once; the numbers are those of rouge_score, SQuAD's script and sacrebleu. No torch, no network.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, count
from typing import TYPE_CHECKING

from qa_lora.scoring.bleu_chrf import BLEU_ORDER, CHRF_ORDER, CorpusStats, bleu_of, chrf_of
from qa_lora.scoring.lcs import lcs_length, places_of, union_hits
from qa_lora.scoring.words import bleu_words, rouge_words, squad_words

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from qa_lora.scoring.overlap import Ids

__all__ = [
    "METRICS",
    "CorpusStats",
    "ScoredAnswers",
    "exact_match",
    "rouge_su4",
    "score",
    "score_all",
    "token_f1",
]

METRICS = (
    *("rouge1", "rouge2", "rougeL", "rougeLsum", "rougeSU4"),
    *("exact_match", "f1", "bleu", "chrf"),
)
"""What :func:`score` gives, each between 0 and 1, of which more is better."""

_SKIP_GAP = 4
_BLOCK = 1_000
"""Answers whose words are in memory together."""


@dataclass(frozen=True)
class ScoredAnswers:
    """The scores of many answers."""

    rows: list[dict[str, float]]
    """For each answer a value from 0 to 1 for each of :data:`METRICS`."""
    stats: list[CorpusStats]
    """For each answer its part in the scores of all of them taken as one text."""

    def corpus(self) -> dict[str, float]:
        """:meth:`CorpusStats.scores` of all answers."""
        return CorpusStats.total(self.stats).scores()


def score(
    prediction: str, references: Sequence[str], *, remove_stopwords: bool = False
) -> dict[str, float]:
    """Score one answer against all right answers to its question; see :func:`score_all`.

    Args:
        prediction: The answer given; may be empty.
        references: The right answers, at least one.
        remove_stopwords: As there.

    Returns:
        A value from 0 to 1 for each of :data:`METRICS`.

    Raises:
        ValueError: If there is no reference.
    """
    return score_all([prediction], [references], remove_stopwords=remove_stopwords).rows[0]


def score_all(
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    remove_stopwords: bool = False,
    processes: int = 1,
) -> ScoredAnswers:
    """Score many answers, which takes a fraction of the time of one by one.

    ROUGE is rouge_score's F1 with Porter stemming; for ROUGE-Lsum a line is a sentence. BLEU and
    chrF of a row are sacrebleu's sentence scores with effective order. With several references
    each metric takes its own best one; corpus BLEU and chrF take them as sacrebleu does.

    Args:
        predictions: The answers given; may be empty texts.
        references: For each answer the right ones, at least one.
        remove_stopwords: Leave :data:`qa_lora.scoring.words.STOP_WORDS` out of the ROUGE scores.
        processes: How many share the work. They take a second or two to start, so that more than
            one pays from some ten thousand answers on, and they import the caller's script, which
            must not score anything while it is imported.

    Raises:
        ValueError: If an answer has no reference, or the two are not equally many.
    """
    if len(predictions) != len(references):
        raise ValueError("there must be references for each answer, and for no more")
    if not all(references):
        raise ValueError("an answer can only be scored against at least one reference")
    blocks = [
        (predictions[start : start + _BLOCK], references[start : start + _BLOCK], remove_stopwords)
        for start in range(0, len(predictions), _BLOCK)
    ]
    if processes > 1 and len(blocks) > 1:
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_context

        with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
            parts = list(pool.map(_score_block, blocks))
    else:
        parts = [_score_block(block) for block in blocks]
    return ScoredAnswers(
        [row for part in parts for row in part.rows],
        [each for part in parts for each in part.stats],
    )


def _score_block(
    asked: tuple[Sequence[str], Sequence[Sequence[str]], bool],
) -> ScoredAnswers:
    predictions, references, remove_stopwords = asked
    block = _Block(predictions, references)
    rows = block.scores(remove_stopwords)
    counts = zip(block.bleu_stats, block.chrf_stats, strict=True)
    return ScoredAnswers(rows, [CorpusStats(tuple(bleu), tuple(chrf)) for bleu, chrf in counts])


class _Block:
    """Answers that are scored together, each with each of its references a pair of texts."""

    def __init__(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> None:
        import numpy as np

        places: defaultdict[str, int] = defaultdict(count().__next__)
        self.pairs = [
            (places[answer], places[reference])
            for answer, wanted in zip(predictions, references, strict=True)
            for reference in wanted
        ]
        self.texts = list(places)
        self.answers, self.wanted = np.array(self.pairs).T  # (pairs,) each
        sizes = [len(wanted) for wanted in references]
        self.starts = np.cumsum([0, *sizes[:-1]])  # where the pairs of each answer begin
        self.sizes = np.array(sizes)
        self.bleu_stats: list[list[int]] = []
        self.chrf_stats: list[list[int]] = []

    def scores(self, remove_stopwords: bool) -> list[dict[str, float]]:
        """A dictionary for each answer; fills the counts for the corpus, too."""
        import numpy as np

        per_pair = {
            **self._rouge(remove_stopwords), **self._squad(), "bleu": self._bleu(),
            "chrf": self._chrf(),
        }  # fmt: skip
        best = {name: np.maximum.reduceat(per_pair[name], self.starts) for name in METRICS}
        table = np.column_stack(list(best.values())).tolist()
        return [dict(zip(METRICS, row, strict=True)) for row in table]

    def _rouge(self, remove_stopwords: bool) -> dict[str, NDArray[np.float64]]:
        import numpy as np

        from qa_lora.scoring.overlap import overlaps, skip_overlaps

        numbers: defaultdict[str, int] = defaultdict(count().__next__)

        def words(text: str) -> list[int]:
            found = rouge_words(text, remove_stopwords=remove_stopwords)
            return [numbers[word] for word in found]

        # Lines are sentences; one that has no words is none. Most texts have but one.
        lines = [[line for line in map(words, text.split("\n")) if line] for text in self.texts]
        listed = [each[0] if len(each) == 1 else [*chain(*each)] for each in lines]
        ids = _arrays(listed)
        sizes = np.array([len(each) for each in ids])
        common = overlaps(ids, self.pairs, 2)
        places = {b: places_of(listed[b]) for b in {b for _, b in self.pairs}}
        lcs = np.array([lcs_length(listed[a], places[b], len(listed[b])) for a, b in self.pairs])
        union = lcs.copy()
        for at, (a, b) in enumerate(self.pairs):
            if len(lines[a]) > 1 or len(lines[b]) > 1:
                union[at] = union_hits(lines[b], lines[a])
        # Words, and behind each word up to five more to make a pair with.
        units = sizes + sum(np.maximum(sizes - back, 0) for back in range(1, _SKIP_GAP + 2))
        return {
            "rouge1": self._f1(common[:, 0], sizes),
            "rouge2": self._f1(common[:, 1], np.maximum(sizes - 1, 0)),
            "rougeL": self._f1(lcs, sizes),
            "rougeLsum": self._f1(union, sizes),
            "rougeSU4": self._f1(skip_overlaps(ids, self.pairs, _SKIP_GAP), units),
        }

    def _squad(self) -> dict[str, NDArray[np.float64]]:
        import numpy as np

        from qa_lora.scoring.overlap import overlaps

        words = [squad_words(text) for text in self.texts]
        ids = _arrays(_numbered(words))
        sizes = np.array([len(each) for each in words])
        equal = np.array([words[a] == words[b] for a, b in self.pairs], dtype=np.float64)
        f1 = self._f1(overlaps(ids, self.pairs, 1)[:, 0], sizes)
        nothing = (sizes[self.answers] == 0) | (sizes[self.wanted] == 0)
        return {"exact_match": equal, "f1": np.where(nothing, equal, f1)}

    def _f1(self, common: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.float64]:
        """F1 of two bags: their overlap over the mean of their sizes; 0 of two empty ones."""
        import numpy as np

        both = sizes[self.answers] + sizes[self.wanted]
        f1: NDArray[np.float64] = 2 * common / np.maximum(both, 1)
        return f1

    def _bleu(self) -> NDArray[np.float64]:
        import numpy as np

        from qa_lora.scoring.overlap import clipped_overlaps, overlaps

        ids = _arrays(_numbered([bleu_words(text) for text in self.texts]))
        sizes = np.array([len(each) for each in ids])
        orders = np.arange(BLEU_ORDER)
        given = np.maximum(sizes[:, None] - orders, 0)  # (texts, orders)
        right = overlaps(ids, self.pairs, BLEU_ORDER)
        ours, theirs = sizes[self.answers], sizes[self.wanted]
        stats = np.column_stack([ours, theirs, right, given[self.answers]])
        scores = np.array([bleu_of(row, effective_order=True) for row in stats.tolist()])

        several = np.flatnonzero(self.sizes > 1)
        together = stats[self.starts]
        groups = [range(self.starts[i], self.starts[i] + self.sizes[i]) for i in several]
        together[several, 2 : 2 + BLEU_ORDER] = clipped_overlaps(
            ids,
            [(self.pairs[group[0]][0], [self.pairs[at][1] for at in group]) for group in groups],
            BLEU_ORDER,
        )
        for i, group in zip(several, groups, strict=True):
            length = ours[group[0]]
            together[i, 1] = min(theirs[group], key=lambda n: (abs(n - length), n))
        self.bleu_stats = together.tolist()
        return scores

    def _chrf(self) -> NDArray[np.float64]:
        import numpy as np

        from qa_lora.scoring.overlap import overlaps

        ids = [
            np.frombuffer("".join(text.split()).encode("utf-32-le", "surrogatepass"), np.uint32)
            for text in self.texts
        ]
        sizes = np.array([len(each) for each in ids])
        held = np.maximum(sizes[:, None] - np.arange(CHRF_ORDER), 0)
        ours, theirs = held[self.answers], held[self.wanted]
        stats = np.stack(
            [np.where(theirs > 0, ours, 0), theirs, overlaps(ids, self.pairs, CHRF_ORDER)], axis=2
        )  # (pairs, orders, 3)
        scores = chrf_of(stats)
        best = [
            start + int(scores[start : start + size].argmax())
            for start, size in zip(self.starts, self.sizes, strict=True)
        ]
        self.chrf_stats = stats[best].reshape(len(best), -1).tolist()
        return scores


def _numbered(texts: Iterable[Sequence[str]]) -> list[list[int]]:
    """Words as numbers, equal ones as equal ones."""
    numbers: defaultdict[str, int] = defaultdict(count().__next__)
    return [[numbers[word] for word in words] for words in texts]


def _arrays(texts: Iterable[Sequence[int]]) -> list[Ids]:
    import numpy as np

    return [np.array(words, dtype=np.uint32) for words in texts]


def rouge_su4(prediction: str, reference: str, *, stem: bool = True) -> float:
    """ROUGE-SU4: F1 over skip-bigrams at most four words apart, and single words.

    Lin, "ROUGE: A Package for Automatic Evaluation of Summaries" (2004), section 6, equations 22 to
    24 with beta = 1: P and R are the skip-bigrams in both texts over those in the prediction and in
    the reference, each counted as often as both have it. A skip-bigram is two words in their order
    with at most d_skip = 4 words between them, so that d_skip = 0 gives plain bigrams. The U adds
    every word once, which the paper describes as skip-bigrams with a marker at the beginning; the
    marker is taken to reach all words, not just the first five ("adding unigram as counting unit").
    Words are those of rouge_score's tokenizer; the text counts as one sentence, as in ROUGE-L.

    Args:
        prediction: The answer given.
        reference: A right answer.
        stem: Compare Porter stems, as the other ROUGE scores here do.
    """
    ours, theirs = (rouge_words(text, stem=stem) for text in (prediction, reference))
    return _f1(_skip_units(ours), _skip_units(theirs))


def _skip_units(words: list[str]) -> Counter[Hashable]:
    units: Counter[Hashable] = Counter(words)
    for i, first in enumerate(words):
        units.update((first, second) for second in words[i + 1 : i + 2 + _SKIP_GAP])
    return units


def _f1(ours: Counter[Hashable], theirs: Counter[Hashable]) -> float:
    """F1 of two bags: their overlap, clipped to the smaller count, over the mean of their sizes."""
    size = ours.total() + theirs.total()
    return 2 * (ours & theirs).total() / size if size else 0.0


def exact_match(prediction: str, reference: str) -> float:
    """1.0 if both are the same after SQuAD's normalisation, else 0.0."""
    return float(squad_words(prediction) == squad_words(reference))


def token_f1(prediction: str, reference: str) -> float:
    """SQuAD's F1 over words; where one side has no words, 1.0 if the other has none either.

    Rajpurkar et al., "SQuAD" (2016), and the rule for empty answers of the SQuAD 2.0 script.
    """
    ours, theirs = squad_words(prediction), squad_words(reference)
    if not ours or not theirs:
        return float(ours == theirs)
    return _f1(Counter(ours), Counter(theirs))

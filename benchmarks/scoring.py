"""How long scoring and its statistics take, against the libraries one answer at a time.

The answers are generated: short ones like atlas's (about 8 words) and long ones like HC3's (about
150, words as frequent as a natural language's, some in several lines). A row is a question with the
answers of base and tuned, one reference each, and with --references more.

    python benchmarks/scoring.py --rows 10000 --libraries
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

KINDS = {"short": 8, "long": 150}


def rows(
    kind: str, count: int, references: int, seed: int = 0
) -> tuple[list[str], list[list[str]]]:
    """Answers of base and tuned to `count` questions, and the references to each."""
    rng = random.Random(f"{kind}/{seed}")
    letters = "etaoinshrdlucmfwypvbgk"
    words = ["".join(rng.choices(letters, k=rng.randint(2, 9))) for _ in range(30_000)]
    weights = np.cumsum([1 / (rank + 3) for rank in range(len(words))]).tolist()

    def text() -> str:
        length = max(1, round(rng.gauss(KINDS[kind], KINDS[kind] / 3)))
        body = rng.choices(words, cum_weights=weights, k=length)
        for at in range(11, length, 12):
            body[at] += rng.choice([".", ".", ",", "?", ".\n\n" if kind == "long" else "."])
        return " ".join(body).capitalize() + "."

    def near(reference: str) -> str:
        """An answer that has much of the reference."""
        kept = [word for word in reference.split(" ") if rng.random() < 0.6]
        return " ".join(kept + text().split(" ")[: len(reference.split(" ")) - len(kept)])

    answers: list[str] = []
    wanted: list[list[str]] = []
    for _ in range(count):
        right = [text() for _ in range(references)]
        answers += [text(), near(right[0])]
        wanted += [right, right]
    return answers, wanted


def timed(work: Callable[[], Any]) -> dict[str, float]:
    """Seconds that something takes, and those of all processors that work on it.

    The second says more on a machine that others use, too.
    """
    before, start = os.times(), time.perf_counter()
    work()
    seconds, after = time.perf_counter() - start, os.times()
    used = sum(after[:4]) - sum(before[:4])
    return {"seconds": seconds, "cpu_seconds": used}


def with_libraries(answers: list[str], wanted: list[list[str]]) -> None:
    """The same metrics, but SU4, from the libraries' own calls, an answer at a time."""
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics import BLEU, CHRF

    rouge = RougeScorer(["rouge1", "rouge2", "rougeL", "rougeLsum"], use_stemmer=True)
    bleu, chrf = BLEU(effective_order=True), CHRF()
    for answer, references in zip(answers, wanted, strict=True):
        for reference in references:
            rouge.score(reference, answer)
            bleu.sentence_score(answer, [reference])
        chrf.sentence_score(answer, references)


def main() -> None:
    from qa_lora.scoring import score, score_all
    from qa_lora.scoring.statistics import paired_bootstrap, paired_bootstraps

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--references", type=int, default=1)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--questions", type=int, default=5_000, help="of the bootstrap")
    parser.add_argument("--libraries", action="store_true", help="time the libraries, too")
    parser.add_argument("--json", help="write the figures there")
    parsed = parser.parse_args()

    score("warm", ["up"])
    figures: dict[str, dict[str, float]] = {}
    for kind in KINDS:
        answers, wanted = rows(kind, parsed.rows, parsed.references)
        name = f"{kind}: all metrics, {parsed.rows:,} rows of base and tuned"
        figures[name] = timed(partial(score_all, answers, wanted, processes=parsed.processes))
        if parsed.libraries:
            some = max(1, len(answers) // 50)
            taken = timed(partial(with_libraries, answers[:some], wanted[:some]))
            name = f"{kind}: the libraries' own calls, without SU4 (from 2 % of the rows)"
            figures[name] = {each: taken[each] * len(answers) / some for each in taken}
    rng = np.random.default_rng(0)
    one, other = rng.random((2, parsed.questions)).tolist()
    figures[f"bootstrap, 10,000 resamples of {parsed.questions:,} rows, one metric"] = timed(
        lambda: paired_bootstrap(one, other)
    )
    base, tuned = ({str(i): rng.random(parsed.questions).tolist() for i in range(10)} for _ in "ab")
    figures["the same, ten metrics"] = timed(lambda: paired_bootstraps(base, tuned))

    print("  seconds  of CPU")
    for name, taken in figures.items():
        print(f"{taken['seconds']:9.2f} {taken['cpu_seconds']:7.2f}  {name}")
    if parsed.json:
        Path(parsed.json).write_text(json.dumps(figures, indent=2), "utf-8")


if __name__ == "__main__":
    main()

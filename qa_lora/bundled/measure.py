"""Measures `pocket` on what its pre-training did not see, and writes the figures.

    python -m qa_lora.bundled.measure

Facts are asked in held-out phrasings; unknown questions are of held-out kinds; passages name only
held-out names. Everything is decoded greedily from the saved weights.
"""

import argparse
import json
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qa_lora.bundled import POCKET, UNKNOWN_ANSWER
from qa_lora.bundled.facts import all_facts
from qa_lora.bundled.held_out import HANDWRITTEN, close_by
from qa_lora.bundled.phrases import ask_held_out
from qa_lora.bundled.pocket_text import Pair, prompt
from qa_lora.bundled.reading import passage

SEED = 4242


class Pocket:
    """The model of a folder, for answering many prompts at once."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self.model: Any = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()

    def answer(self, prompts: Sequence[str], batch: int = 128) -> list[str]:
        """Answers greedily, in the order asked."""
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        answers = [""] * len(prompts)
        for start in range(0, len(order), batch):
            part = order[start : start + batch]
            inputs = self.tokenizer([prompts[i] for i in part], return_tensors="pt", padding=True)
            ids = self.model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                max_new_tokens=24,
                do_sample=False,
            )
            texts = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
            for index, text in zip(part, texts, strict=True):
                answers[index] = text
        return answers


def questions(seed: int = SEED, limit: int | None = None) -> dict[str, list[Pair]]:
    """Gives each measure its prompts with the right answers.

    Args:
        seed: of the phrasings, names and passages.
        limit: at most so many of each, drawn at random.
    """
    rng = random.Random(seed)
    facts = [Pair(prompt(ask_held_out(fact, rng)), fact.answer) for fact in all_facts()]
    measures = {
        "facts": facts,
        "unknown_other_kinds": [Pair(prompt(q), UNKNOWN_ANSWER) for q in HANDWRITTEN],
        "unknown_close_by": [Pair(prompt(close_by(rng)), UNKNOWN_ANSWER) for _ in range(300)],
    }
    for sentences in (1, 2, 3):
        made = [passage(rng, sentences, held_out=True) for _ in range(400)]
        measures[f"reading_{sentences}"] = [
            Pair(prompt(p.question, p.context), p.answer) for p in made
        ]
    if limit is not None:
        measures = {k: rng.sample(v, min(limit, len(v))) for k, v in measures.items()}
    return measures


def measure(
    folder: Path, limit: int | None = None, *, show_wrong: int = 0
) -> dict[str, dict[str, float]]:
    """Gives each measure's number of questions and share answered exactly.

    Args:
        folder: a transformers folder.
        limit: at most so many questions a measure.
        show_wrong: print so many wrong answers of each measure.
    """
    pocket = Pocket(folder)
    figures = {}
    for name, pairs in questions(limit=limit).items():
        answers = pocket.answer([pair.source for pair in pairs])
        wrong = [(p, a) for p, a in zip(pairs, answers, strict=True) if p.target != a]
        figures[name] = {"questions": len(pairs), "exact": round(1 - len(wrong) / len(pairs), 4)}
        for pair, answer in wrong[:show_wrong]:
            print(f"{name}: {pair.source!r}: wanted {pair.target!r}, got {answer!r}")
    return figures


def main() -> None:
    """Reads the command line, measures, prints a table and JSON."""
    parser = argparse.ArgumentParser(description="Measure the bundled model on held-out questions.")
    parser.add_argument("--model", type=Path, default=POCKET, help="folder of the model")
    parser.add_argument("--limit", type=int, default=None, help="at most so many of each kind")
    parser.add_argument("--show-wrong", type=int, default=0, help="print so many wrong answers")
    arguments = parser.parse_args()
    start = time.perf_counter()
    figures = measure(arguments.model, arguments.limit, show_wrong=arguments.show_wrong)
    for name, figure in figures.items():
        print(f"{name:20} {figure['questions']:5.0f} questions  {100 * figure['exact']:6.2f} %")
    print(f"{time.perf_counter() - start:.0f} s")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()

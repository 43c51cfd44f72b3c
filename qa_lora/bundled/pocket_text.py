"""The mixture that `pocket` is pre-trained on: endless, from a seed, in three streams."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from qa_lora.bundled import UNKNOWN_ANSWER
from qa_lora.bundled.facts import all_facts, rows_by_entity
from qa_lora.bundled.phrases import ask
from qa_lora.bundled.reading import copying, passage, read
from qa_lora.bundled.sentences import body, list_question, listed, patterned, told
from qa_lora.bundled.unknowns import ask_unknown


@dataclass(frozen=True)
class Pair:
    """What goes into the encoder and what the decoder must give."""

    source: str
    target: str


def prompt(question: str, context: str = "") -> str:
    """Writes the product's own prompt, the only one under which the model is terse."""
    tail = f" Context: {context}" if context else ""
    return f"Answer this question: {question}{tail}"


class Mixture:
    """Draws training pairs; two of the same seed draw the same."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        # Numbers asked backwards are the hardest to learn: they come up twice as often.
        hard = [fact for fact in all_facts() if fact.relation == "element_of_number"]
        self.facts = [*all_facts(), *hard]
        self.entities = list(rows_by_entity())

    def terse(self) -> Pair:
        """Draws a plain question: a fact, or something unknown."""
        if self.rng.random() < 0.82:
            fact = self.rng.choice(self.facts)
            return Pair(prompt(ask(fact, self.rng)), fact.answer)
        return Pair(prompt(ask_unknown(self.rng)), UNKNOWN_ANSWER)

    def reading(self, copies: float, shares: Sequence[float]) -> Pair:
        """Draws a passage of one to three sentences, or (a share of `copies`) words to copy."""
        made = copying(self.rng) if self.rng.random() < copies else read(self.rng, shares)
        return Pair(prompt(made.question, made.context), made.answer)

    def free(self) -> Pair:
        """Draws what makes the model flexible: sentences, patterns, lists, gaps to fill."""
        draw = self.rng.random()
        fact = self.rng.choice(self.facts)
        if draw < 0.35:
            return Pair(*told(fact, self.rng))
        if draw < 0.65:
            return Pair(*patterned(fact, self.rng))
        if draw < 0.80:
            return Pair(*listed(self.rng.choice(self.entities), self.rng))
        if draw < 0.90:
            question, answer = list_question(self.rng.choice(self.entities), self.rng)
            return Pair(prompt(question), answer)
        return self.gaps()

    def gaps(self) -> Pair:
        """Draws a text with one or two spans taken out, T5's own pre-training task."""
        if self.rng.random() < 0.5:
            text = ". ".join(body(self.rng.choice(self.facts), self.rng) for _ in range(2)) + "."
        else:
            text = passage(self.rng, self.rng.randint(1, 3)).context
        words = text.split(" ")
        first = self.rng.randrange(max(1, len(words) // 2))
        spans = [(first, first + self.rng.randint(1, 3))]
        second = spans[0][1] + self.rng.randint(1, 5)
        if second < len(words):
            spans.append((second, second + self.rng.randint(1, 3)))
        source, target, at = [], [], 0
        for number, (start, end) in enumerate(spans):
            mark = f"<extra_id_{number}>"
            source += [*words[at:start], mark]
            target += [mark, *words[start:end]]
            at = end
        return Pair(" ".join([*source, *words[at:]]), " ".join(target))

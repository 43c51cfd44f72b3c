"""What an adapter does to its base: how often the first token changes, and by how much the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from qa_lora.answering.answerer import BASE, TUNED, Answerer
from qa_lora.batching import EncodedExample, collate
from qa_lora.data.example import QAExample
from qa_lora.encoding import Prompt, encode_texts
from qa_lora.errors import ConfigError, DataError
from qa_lora.generation import Stopped
from qa_lora.token_rows import rows_in_place

__all__ = ["Effect", "measure_effect"]

NIL = 1e-6
"""Nats a token. An adapter that adds nothing differs by 0; one that was trained, by far more."""

SCORES_AT_ONCE = 2**24
"""Numbers of one system in a batch, as fp32: 64 MB."""


@dataclass(frozen=True)
class Effect:
    """How an adapter's next-token distributions differ from its base's."""

    rows: int
    """Questions looked at."""
    changed_first_tokens: float
    """Share of the questions at which the likeliest first token is another one."""
    mean_kl: float
    """Mean over all tokens of the tuned answers of the Kullback-Leibler divergence, in nats."""
    acts: bool
    """False if the adapter does nothing at all to these questions."""

    def sentence(self) -> str:
        """The same for a person."""
        if not self.acts:
            return (
                "The adapter does nothing here: with it and without it the model gives every token "
                "the same probability."
            )
        return (
            f"The adapter changes the first token of {self.changed_first_tokens:.0%} of the "
            f"answers, and the distribution at each token by {self.mean_kl:.2g} nats on average."
        )


def measure_effect(
    answerer: Answerer,
    examples: Sequence[QAExample],
    *,
    system: str = TUNED,
    limit: int | None = 64,
    answers: Sequence[str] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Effect:
    """Compare an adapter's distributions with its base's along the answers that it gives.

    Both read the same prompts, those of the adapter, and then the same answer token by token. At
    each position, the end included, the divergence KL(tuned || base) = sum p_tuned log(p_tuned /
    p_base) is taken over the vocabulary, in fp32 and nats, and the mean is over all positions.

    An adapter with embedding rows of its own knows tokens that mean nothing to the base. Both are
    then compared over the base's tokens alone, each made to sum to 1, and an answer counts up to
    the first place where it takes a token of its own, which the base could not read on from.

    Args:
        answerer: With the system in memory.
        examples: Questions; their own answers are not looked at.
        system: Which adapter.
        limit: Look at so many questions at most, evenly spread; at all if None.
        answers: The adapter's answers to all the questions, if they are known; otherwise they are
            made, greedily.
        should_stop: Asked every few tokens and before each batch.

    Raises:
        ConfigError: If the system is the base, or is not there.
        DataError: If there are no questions.
        ModelError: If the memory does not suffice.
        Stopped: If `should_stop` said so before all was measured.
    """
    if system == BASE:
        raise ConfigError("The base has no adapter whose effect could be measured.")
    own = answerer.tokenizer_of(system)
    if not examples:
        raise DataError("There are no questions to measure the adapter's effect on.")
    count = len(examples) if limit is None else min(limit, len(examples))
    chosen = [i * len(examples) // count for i in range(count)]
    asked = [examples[i] for i in chosen]
    if answers is None:
        greedy = replace(answerer.settings, do_sample=False, num_beams=1)
        found = dict(
            answerer.answer_many(asked, systems=[system], settings=greedy, should_stop=should_stop)
        )
        if len(found) < count:
            raise Stopped
        texts = [found[i][system].text for i in range(count)]
    else:
        texts = [answers[i] for i in chosen]
    targets = encode_texts(own, texts, answerer.settings.max_new_tokens + 1)
    known = set(answerer.base_tokenizer.get_vocab().values())
    unknown = set(own.get_vocab().values()) - known
    prompts = {
        system: answerer.prompts(asked, system),
        BASE: answerer.prompts(asked, system, tokenizer=answerer.base_tokenizer),
    }
    width = int(answerer.model.get_base_model().get_output_embeddings().weight.shape[0])
    columns = sorted(i for i in known if i < width) if unknown else None
    lengths = [_readable(ids, unknown) for ids in targets]
    changed, total, positions = 0, 0.0, 0
    for rows in _batches(lengths, max(1, SCORES_AT_ONCE // width)):
        if should_stop():
            raise Stopped
        parts = [targets[i] for i in rows]
        counted = [lengths[i] for i in rows]
        tuned = _scores(answerer, system, [prompts[system][i] for i in rows], parts, counted)
        base = _scores(answerer, BASE, [prompts[BASE][i] for i in rows], parts, counted)
        firsts = [sum(counted[:i]) for i in range(len(rows))]
        changed += int((tuned[firsts].argmax(-1) != base[firsts].argmax(-1)).sum())
        if columns is not None:
            tuned, base = tuned[:, columns], base[:, columns]
        tuned, base = tuned.log_softmax(-1), base.log_softmax(-1)
        total += float((tuned.exp() * (tuned - base)).sum(-1).double().sum())
        positions += len(tuned)
    mean = total / positions
    nil = mean <= NIL  # false for what is no number, too
    return Effect(count, changed / count, 0.0 if mean < 0 else mean, acts=changed > 0 or not nil)


def _readable(ids: Sequence[int], unknown: set[int]) -> int:
    """How many of an answer's tokens are predicted from a beginning that the base can read."""
    return next((place + 1 for place, i in enumerate(ids) if i in unknown), len(ids))


def _batches(lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    """Rows of like length, each batch of at most so many positions, padding included."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    while order:
        rows = max(1, most // lengths[order[0]])
        yield order[:rows]
        order = order[rows:]


@torch.no_grad()
def _scores(
    answerer: Answerer,
    system: str,
    prompts: Sequence[Prompt],
    targets: Sequence[Sequence[int]],
    counted: Sequence[int],
) -> torch.Tensor:
    """Logits (N, V) in fp32 of the N counted positions of all rows, one row after the other."""
    with answerer.acting(system) as model, rows_in_place(model):
        pad_id = answerer.base_tokenizer.pad_token_id
        inputs = collate([EncodedExample(prompt.ids, []) for prompt in prompts], pad_id)
        inputs = inputs.to(model.device)
        start = model.get_base_model().config.decoder_start_token_id
        read = torch.full((len(targets), max(counted)), pad_id, device=model.device)
        for row, ids, count in zip(read, targets, counted, strict=True):
            row[:count] = torch.tensor([start, *ids[: count - 1]])
        logits = model(
            input_ids=inputs.input_ids,
            attention_mask=inputs.attention_mask,
            decoder_input_ids=read,
            use_cache=False,
        ).logits
        return torch.cat([row[:count] for row, count in zip(logits, counted, strict=True)]).float()

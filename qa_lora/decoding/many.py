"""Many prompts to answers, in batches of prompts of like length under a budget of memory."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch

from qa_lora.decoding.greedy import GreedyBatch
from qa_lora.decoding.model import StepModel
from qa_lora.decoding.support import why_not
from qa_lora.devices import is_out_of_memory
from qa_lora.encoding import Prompt
from qa_lora.errors import ModelError
from qa_lora.generation import Answer, GenerationSettings, Stopped, end_ids, generate_batch

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase

__all__ = ["answer_all", "bytes_of_a_token", "usual_tokens"]

BATCH_BYTES = {"cpu": 800 << 20, "gpu": 8 << 30}
"""Keys and values of one batch, if no answer ends early; about half of it as answers use to be.

A small model is given more rows for it than a large one: its steps cost little beside what each
step costs whatever the rows, and the last answers of a batch take as many steps as all of them.
"""

STEPS_BETWEEN_LOOKS = {"cpu": 1, "gpu": 8}
"""After how many tokens it is seen which answers have ended; a GPU has to be waited for."""

LOOKS_BETWEEN_STOPS = 4
"""After how many of those looks it is asked whether to stop."""


def answer_all(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    *,
    settings: GenerationSettings,
    adapter: str | None,
    batch_tokens: int | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[int, Answer]]:
    """Answer many prompts, as `generate` would answer each by itself.

    Greedy answers of a T5 are computed by hand, without what `generate` does beside; see
    :func:`qa_lora.decoding.support.why_not` for what is left to `generate`. The model keeps its
    weights, bit for bit, and no torch context is open while the caller works.

    Args:
        model: A base with one or more adapters.
        tokenizer: That which made the prompts.
        prompts: Whose notices become those of their answers.
        settings: How answers are generated.
        adapter: The name of the adapter that answers; None for the untouched base.
        batch_tokens: Prompt and answer tokens, padding included, that one batch may come to, so
            that memory stays bounded; :func:`usual_tokens` if None. One prompt is always taken.
        should_stop: Asked every few tokens. When it says so, the answers that have ended by then
            were all given, and no other one is; where `generate` does the work, those of its batch
            are not.

    Yields:
        Each prompt's index, once, with its answer; longer prompts first, and of one batch the
        answers in the order in which they end.

    Raises:
        ModelError: If there is no such adapter, or the memory does not suffice for one prompt.
    """
    if adapter is not None and adapter not in model.peft_config:
        raise ModelError(
            f"The model has no adapter {adapter}.", f"It has {', '.join(model.peft_config)}."
        )
    kind = "cpu" if model.device.type == "cpu" else "gpu"
    budget = (batch_tokens or usual_tokens(model)) // settings.num_beams
    waiting = sorted(range(len(prompts)), key=lambda i: -len(prompts[i].ids))
    if not waiting:
        return
    by_hand = StepModel(model, adapter) if why_not(model, adapter, settings) is None else None
    while waiting:
        width = len(prompts[waiting[0]].ids) + settings.max_new_tokens
        rows = max(1, budget // width)
        batch, waiting = waiting[:rows], waiting[rows:]
        asked = [prompts[i] for i in batch]
        answered: set[int] = set()
        try:
            if by_hand is None:
                answers = _generated(model, tokenizer, asked, settings, adapter, should_stop)
            else:
                answers = _greedy(model, by_hand, tokenizer, asked, settings, should_stop)
            for place, answer in answers:
                answered.add(place)
                yield batch[place], answer
            continue
        except Stopped:
            return
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # Outside the except block, where the error no longer holds on to what filled the memory.
        del answers
        if kind == "gpu":
            torch.cuda.empty_cache()
        if len(batch) == 1:
            raise ModelError(
                "The memory does not suffice for one answer.",
                "Use shorter answers or a smaller model.",
            )
        budget = width * (len(batch) // 2)
        waiting = [i for place, i in enumerate(batch) if place not in answered] + waiting


def usual_tokens(model: PeftModel) -> int:
    """Prompt and answer tokens in one batch whose keys and values take BATCH_BYTES.

    Args:
        model: With its adapters.
    """
    kind = "cpu" if model.device.type == "cpu" else "gpu"
    return max(1, BATCH_BYTES[kind] // bytes_of_a_token(model))


def bytes_of_a_token(model: PeftModel) -> int:
    """What the keys and values of one token of a prompt or an answer take in all decoder layers.

    Args:
        model: With its adapters. One that says not how large its keys are counts as FLAN-T5 base.
    """
    base: Any = model.get_base_model()
    config = base.config
    layers: Any = getattr(config, "num_decoder_layers", None) or getattr(config, "num_layers", 12)
    width: int = getattr(config, "num_heads", 12) * getattr(config, "d_kv", 64)
    return int(2 * layers * width * base.dtype.itemsize)


def _greedy(
    model: PeftModel,
    computed: StepModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    settings: GenerationSettings,
    should_stop: Callable[[], bool],
) -> Iterator[tuple[int, Answer]]:
    """The answers of a batch, each as soon as it has ended."""
    started = time.perf_counter()
    ends = end_ids(model, tokenizer)
    steps = STEPS_BETWEEN_LOOKS["cpu" if model.device.type == "cpu" else "gpu"]
    if should_stop():
        raise Stopped
    batch = GreedyBatch(computed, [p.ids for p in prompts], ends, settings.max_new_tokens)
    for look in itertools.count(1):
        for place, ids, cut in batch.advance(steps):
            text = tokenizer.decode(
                ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
            seconds = time.perf_counter() - started
            yield place, Answer(text.strip(), len(ids), seconds, cut, prompts[place].notice)
        if not batch.rows:
            return
        if look % LOOKS_BETWEEN_STOPS == 0 and should_stop():
            raise Stopped


def _generated(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    settings: GenerationSettings,
    adapter: str | None,
    should_stop: Callable[[], bool],
) -> Iterator[tuple[int, Answer]]:
    """The same by `generate`, all at its end."""
    with _at_work(model, adapter):
        answers = generate_batch(
            model, tokenizer, prompts, should_stop=should_stop, **asdict(settings)
        )
    yield from enumerate(answers)


@contextmanager
def _at_work(model: PeftModel, adapter: str | None) -> Iterator[None]:
    """Meanwhile one adapter alone is at work, or none; afterwards those that were."""
    before = model.active_adapter
    if adapter is None:
        with model.disable_adapter():
            yield
    elif adapter == before:
        yield
    else:
        trained = [p for p in model.parameters() if p.requires_grad]
        model.set_adapter(adapter)
        try:
            yield
        finally:
            model.set_adapter(before)
            model.requires_grad_(False)
            for parameter in trained:
                parameter.requires_grad = True

"""Text to token ids: questions whole wherever they fit, and no text that steers the model.

Training, validation, answering and evaluation all make their prompts with :func:`fit_prompts`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from qa_lora.prompts import PromptTemplate

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Asked", "Prompt", "encode_texts", "fit_prompts"]


class Asked(Protocol):
    """What a prompt is made of; every `QAExample` is one."""

    @property
    def question(self) -> str: ...
    @property
    def context(self) -> str: ...
    @property
    def history(self) -> Sequence[tuple[str, str]]: ...


@dataclass(frozen=True)
class Prompt:
    """What the encoder reads, and what was left out of it."""

    ids: list[int]
    """Ends in the end token."""
    notice: str = ""
    """What the reader should know, where something had to be left out."""


def fit_prompts(
    tokenizer: PreTrainedTokenizerBase,
    template: PromptTemplate,
    examples: Sequence[Asked],
    max_source_tokens: int,
) -> list[Prompt]:
    """Prompts of at most so many tokens, the question whole wherever it fits.

    What does not fit goes in this order: the oldest turns of the chat, each as a whole; the end of
    the context; and the end of the question only where it is too long by itself.

    Args:
        tokenizer: Of the model that reads them.
        template: How a question becomes a prompt.
        examples: Questions with their contexts and earlier turns.
        max_source_tokens: Longest prompt, its end token counted.
    """
    limit = max_source_tokens
    texts = [template.render(e.question, e.context, e.history) for e in examples]
    # One more than fits tells those that do not; they alone are looked at again.
    rows = encode_texts(tokenizer, texts, limit + 1)
    return [
        Prompt(ids) if len(ids) <= limit else _fit(tokenizer, template, example, limit)
        for ids, example in zip(rows, examples, strict=True)
    ]


def encode_texts(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], limit: int | None
) -> list[list[int]]:
    """Token ids of texts, in which a control token stands at the end only.

    Text that looks like a control token, such as a literal ``</s>``, is taken as the text it is.
    A tokenizer whose vocabulary cannot but read it as control gets it with a space in it.

    Args:
        tokenizer: That of the model.
        texts: Any texts. Halves of characters, which no tokenizer takes, become U+FFFD.
        limit: Longer rows lose their end, their end token kept; None for any length.
    """
    if not texts:
        return []
    plain = [_whole_characters(text) for text in texts]
    options: dict[str, Any] = {"split_special_tokens": True}
    if limit is not None:
        options |= {"truncation": True, "max_length": limit}
    rows: list[list[int]] = tokenizer(plain, **options)["input_ids"]
    controls = _controls(tokenizer)
    first, last = _frame(tokenizer)
    for i, ids in enumerate(rows):
        if not controls.isdisjoint(ids[first : len(ids) - last]):
            broken: list[int] = tokenizer(_broken(tokenizer, plain[i]), **options)["input_ids"]
            end = len(broken) - last
            rows[i] = [
                token
                for place, token in enumerate(broken)
                if not first <= place < end or token not in controls
            ]
    return rows


def _controls(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Ids that no text may give; the unknown token stands for a character, and steers nothing."""
    return frozenset(tokenizer.all_special_ids) - {tokenizer.unk_token_id}


def _frame(tokenizer: PreTrainedTokenizerBase) -> tuple[int, int]:
    """How many control tokens the tokenizer puts before and after a text."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    framed = tokenizer("a")["input_ids"]
    first = next(i for i in range(len(framed)) if framed[i : i + len(bare)] == bare)
    return first, len(framed) - first - len(bare)


def _broken(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """The text with a space in everything that its tokenizer takes for a control token.

    Unigram vocabularies, as T5's, hold control tokens as pieces, and find them in what their
    normaliser makes of the text: full-width brackets become plain ones.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    normaliser = getattr(backend, "normalizer", None)
    if normaliser is not None:
        text = normaliser.normalize_str(text)
    tokens = sorted(filter(None, tokenizer.all_special_tokens), key=len, reverse=True)
    control = re.compile("|".join(map(re.escape, tokens)))
    while control.search(text):
        text, before = control.sub(lambda found: f"{found[0][:1]} {found[0][1:]}", text), text
        if len(text) > 4 * len(before) + 64:  # a control token that is in its own pieces
            break
    return text


def _whole_characters(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _fit(
    tokenizer: PreTrainedTokenizerBase, template: PromptTemplate, asked: Asked, limit: int
) -> Prompt:
    """One prompt that is too long, made to fit."""

    def fits(text: str) -> list[int] | None:
        ids = encode_texts(tokenizer, [text], limit + 1)[0]
        return ids if len(ids) <= limit else None

    turns = list(asked.history)
    fewest, most = 1, len(turns)  # turns to leave out
    kept: list[int] | None = None
    while fewest <= most:
        middle = (fewest + most) // 2
        ids = fits(template.render(asked.question, asked.context, turns[middle:]))
        if ids is None:
            fewest = middle + 1
        else:
            kept, most = ids, middle - 1
    if kept is not None:
        return Prompt(kept, _left_out(fewest, len(turns)))

    notices = [_left_out(len(turns), len(turns))] if turns else []
    question = template.render(asked.question)
    if asked.context:
        label, _, tail = template.context_prompt.rpartition("{context}")
        room = fits(question + label + tail)
        if room is not None and len(room) < limit:
            head = template.render(asked.question, asked.context).removesuffix(tail)
            notices.append("The end of the context was left out, for it was too long.")
            return Prompt(_cut(tokenizer, head, tail, limit), " ".join(notices))
        notices.append("The context was left out, for there was no room for it.")
    ids = fits(question)
    if ids is not None:
        return Prompt(ids, " ".join(notices))
    tail = template.prompt.rpartition("{question}")[2]
    notices.append(f"The question was too long and was cut to {limit} tokens.")
    return Prompt(_cut(tokenizer, question.removesuffix(tail), tail, limit), " ".join(notices))


def _cut(tokenizer: PreTrainedTokenizerBase, head: str, tail: str, limit: int) -> list[int]:
    """Ids of both, the head without its end."""
    (after,) = encode_texts(tokenizer, [tail], None) if tail else [[]]
    if not 0 < len(after) < limit - 1:
        return encode_texts(tokenizer, [head], limit)[0]
    first, last = _frame(tokenizer)
    before = encode_texts(tokenizer, [head], limit - len(after) + first + last)[0]
    return before[: len(before) - last] + after[first:]


def _left_out(turns: int, of: int) -> str:
    which = "All earlier turns" if turns == of else f"The oldest {turns} of {of} earlier turns"
    return f"{which} were left out, for they were too long."

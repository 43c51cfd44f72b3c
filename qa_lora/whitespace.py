"""Tokens for the line breaks, tabs and runs of spaces that a tokenizer such as T5's loses."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers
from transformers import PreTrainedTokenizerFast

from qa_lora.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["NEW_TOKENS", "choose_tokenizer", "loses_whitespace", "new_ids", "with_tokens"]

NEWLINE, TAB, TWO_SPACES, SPACE = "\ue00a", "\ue009", "\ue002", "\ue001"
"""What stands for them inside the tokenizer: private characters, which no text has a use for."""

MARKS = {NEWLINE: "\n", TAB: "\t", TWO_SPACES: "  ", SPACE: " "}

NEW_TOKENS = len(MARKS)

STRUCTURE = re.compile(r"[\n\r\t\u2028\u2029]|  ")
"""What makes a text more than words with one space between them."""


def choose_tokenizer(
    tokenizer: PreTrainedTokenizerBase,
    setting: str,
    answers: Iterable[str],
    *,
    refusal: str = "",
) -> tuple[PreTrainedTokenizerBase, str]:
    """The tokenizer to train with, and a sentence where white space is lost for all that.

    Args:
        tokenizer: That of the base model.
        setting: "on" adds tokens where it loses white space; "auto" does so only if an answer has
            some to lose; "off" never does.
        answers: Of the training rows; looked at for "auto" only, as far as need be.
        refusal: Why the model cannot learn new tokens, if it cannot.

    Returns:
        The tokenizer itself, or a copy that has tokens for white space.

    Raises:
        ModelError: If the setting is "on" and that is not possible.
    """
    if setting == "off" or not loses_whitespace(tokenizer):
        return tokenizer, ""
    if setting == "auto" and not any(STRUCTURE.search(answer) for answer in answers):
        return tokenizer, ""
    if not _is_unigram(tokenizer):
        refusal = "its tokenizer is not of T5's kind"
    if not refusal:
        return with_tokens(tokenizer), ""
    if setting == "on":
        raise ModelError(
            f"This model cannot learn tokens for line breaks: {refusal}.",
            "Set whitespace_tokens to auto or off.",
        )
    return tokenizer, f"Line breaks in answers are lost with this model: {refusal}."


def loses_whitespace(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether line breaks, tabs or repeated spaces are a plain space to a tokenizer, or nothing."""
    plain, *others = tokenizer(["a b", "a\nb", "a\tb", "a  b"])["input_ids"]
    return any(ids == plain for ids in others)


def with_tokens(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerFast:
    """A copy of a tokenizer of T5's kind with tokens of their own for white space.

    All other text gives the ids it gave before, and decoding gives every line break, tab and space
    back. It is a plain `tokenizer.json`: whoever loads that needs nothing of this project.

    Where T5 puts a space before the first word after a new token, decoding takes it away again; a
    space that was really there is a token, too.
    """
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.no_truncation()
    backend.no_padding()
    marks = "".join(MARKS)
    backend.normalizer = normalizers.Sequence(
        [
            normalizers.Replace(Regex("\r\n?|[\n\u2028\u2029]"), NEWLINE),
            normalizers.Replace("\t", TAB),
            normalizers.Replace("  ", TWO_SPACES),
            normalizers.Replace(Regex(f" (?=[{marks}])|(?<=[{marks}]) "), SPACE),
            *([backend.normalizer] if backend.normalizer is not None else []),
        ]
    )
    # Marks are looked for in what the normaliser gives, so that it can make them.
    backend.add_tokens([AddedToken(mark, normalized=True, special=False) for mark in MARKS])
    backend.decoder = decoders.Sequence(
        [
            decoders.Fuse(),
            decoders.Replace(Regex(f"^▁|(?<=[{marks}])▁"), ""),
            decoders.Replace("▁", " "),
            *(decoders.Replace(mark, text) for mark, text in MARKS.items()),
        ]
    )
    named: dict[str, Any] = dict(tokenizer.special_tokens_map)
    others = [t for t in tokenizer.all_special_tokens if t not in named.values()]
    named.setdefault("extra_special_tokens", others)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=tokenizer.model_max_length,
        clean_up_tokenization_spaces=False,
        **named,
    )


def new_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids of the tokens for white space; empty for a tokenizer without them."""
    vocabulary = tokenizer.get_vocab()
    return [vocabulary[mark] for mark in MARKS if mark in vocabulary]


def _is_unigram(tokenizer: PreTrainedTokenizerBase) -> bool:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return False
    parts = json.loads(backend.to_str())
    decoder = parts["decoder"] or {}
    return parts["model"]["type"] == "Unigram" and decoder.get("type") == "Metaspace"

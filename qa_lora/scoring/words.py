"""Texts to words, as each metric defines a word; every text and every stem once."""

from __future__ import annotations

import re
import string
from collections.abc import Callable
from functools import lru_cache

__all__ = ["STOP_WORDS", "bleu_words", "rouge_words", "squad_words"]

STOP_WORDS = frozenset(
    """
    a about above after again against all am an and any are as at be because been before being below
    between both but by can cannot could d did do does doing don down during each few for from
    further had has have having he her here hers herself him himself his how i if in into is it its
    itself just ll m may me might more most must my myself no nor not now of off on once only or
    other our ours ourselves out over own re s same shall she should so some such t than that the
    their theirs them themselves then there these they this those through to too under until up upon
    us ve very was we were what when where which while who whom whose why will with would you your
    yours yourself yourselves
    """.split()
)
"""English function words, and what the tokenizer leaves of contractions such as don't and we'll.

Articles, pronouns, prepositions, conjunctions, auxiliaries and a few adverbs: words that stand in
any English text, whatever it is about."""

_WORD = re.compile(r"[a-z0-9]+")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def rouge_words(text: str, *, stem: bool = True, remove_stopwords: bool = False) -> list[str]:
    """The words of rouge_score's tokenizer: runs of letters a to z and digits, Porter-stemmed.

    Args:
        text: Any text.
        stem: Replace words of more than three letters by their stems.
        remove_stopwords: Leave out :data:`STOP_WORDS`.
    """
    words = _WORD.findall(text.lower())
    if remove_stopwords:
        words = [word for word in words if word not in STOP_WORDS]
    return [stemmed for stemmed in map(_stem, words) if stemmed] if stem else words


@lru_cache(maxsize=2**17)
def _stem(word: str) -> str:
    return next(iter(_stemming()(word)), "")


@lru_cache(maxsize=1)
def _stemming() -> Callable[[str], list[str]]:
    from rouge_score.tokenizers import DefaultTokenizer

    tokenize: Callable[[str], list[str]] = DefaultTokenizer(use_stemmer=True).tokenize
    return tokenize


def squad_words(text: str) -> list[str]:
    """SQuAD's normalisation: lower case, no punctuation, no articles, single spaces."""
    words = text.lower().translate(_PUNCTUATION).split()
    return [word for each in words for word in _without_articles(each)]


@lru_cache(maxsize=2**17)
def _without_articles(word: str) -> tuple[str, ...]:
    # A dash that is no ASCII punctuation may still stand between an article and a word.
    return tuple(_ARTICLES.sub(" ", word).split())


def bleu_words(text: str) -> list[str]:
    """The words of sacrebleu's tokenizer 13a: punctuation apart, case kept.

    It sees no further than from one space to the next, so that each piece is looked at once.
    """
    pieces = text.rstrip().split(" ")
    return [word for piece in pieces if piece for word in _bleu_piece(piece)]


@lru_cache(maxsize=2**17)
def _bleu_piece(piece: str) -> tuple[str, ...]:
    return tuple(_tokenizer_13a()(piece).split())


@lru_cache(maxsize=1)
def _tokenizer_13a() -> Callable[[str], str]:
    from sacrebleu.metrics import BLEU

    tokenizer: Callable[[str], str] = BLEU(tokenize="13a").tokenizer
    return tokenizer

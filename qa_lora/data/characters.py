"""Which characters of the data a tokenizer cannot carry through, and what becomes of them."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["DOUBLE_SPACE", "CharacterCheck", "LostCharacter"]

DOUBLE_SPACE = "  "
"""Counted as if it were a character: several spaces in a row."""
_NAMES = {
    "\n": "line break",
    "\t": "tab",
    DOUBLE_SPACE: "several spaces in a row",
    "\xa0": "no-break space",
    "\u200b": "zero-width space",
}


@dataclass(frozen=True)
class LostCharacter:
    """A character of the data that does not come back from the tokenizer as it was."""

    character: str
    name: str
    effect: Literal["unknown", "lost", "changed"]
    """The unknown token, nothing at all, or other text."""
    becomes: str
    """What comes back in its place."""
    rows: int
    """Examples it is in."""

    @property
    def harmful(self) -> bool:
        """Whether meaning is lost: a curly quote made straight does no harm, a line break does."""
        return _is_harmful(self.effect, self.character)

    @property
    def shown(self) -> str:
        """The character itself where it can be seen, else its name."""
        visible = unicodedata.category(self.character[0])[0] in "LNPS"
        return self.character if visible else self.name

    @property
    def sentence(self) -> str:
        """What happens to it, in words."""
        if self.effect == "unknown":
            return "becomes the unknown token: the model can neither read nor write it"
        if self.effect == "lost":
            return "vanishes"
        return "becomes a space" if self.becomes == " " else f"becomes {self.becomes}"


Effect = Literal["unknown", "lost", "changed"]


class CharacterCheck:
    """Counts the characters of texts, and tries each new one on a tokenizer once."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.harmed_rows = 0
        """Texts with a character whose loss changes what they say."""
        self._tokenizer = tokenizer
        self._rows: Counter[str] = Counter()
        self._known: dict[str, tuple[Effect | None, str]] = {}
        self._harmful: set[str] = set()

    def add(self, texts: Sequence[str]) -> None:
        """Count the characters of some texts."""
        signs = [set(text) for text in texts]
        for text, mine in zip(texts, signs, strict=True):
            if DOUBLE_SPACE in text:
                mine.add(DOUBLE_SPACE)
            self._rows.update(mine)
        self._try(set().union(*signs) - self._known.keys())
        self.harmed_rows += sum(not self._harmful.isdisjoint(mine) for mine in signs)

    def found(self) -> tuple[LostCharacter, ...]:
        """The characters that do not survive: the harmful ones first, then the commonest."""
        found = [
            LostCharacter(character, _name(character), effect, becomes, self._rows[character])
            for character, (effect, becomes) in self._known.items()
            if effect is not None
        ]
        return tuple(sorted(found, key=lambda each: (not each.harmful, -each.rows, each.character)))

    def _try(self, new: Iterable[str]) -> None:
        """Encode each, alone and in the middle of a word, and look at what comes back."""
        characters = [each for each in new if not _is_half(each) and each != " "]
        if not characters:
            return
        inside = self._tokenizer([f"a{each}b" for each in characters])["input_ids"]
        alone = self._tokenizer(characters)["input_ids"]
        for character, word, single in zip(characters, inside, alone, strict=True):
            effect, becomes = _effect(self._tokenizer, character, word, single)
            self._known[character] = effect, becomes
            if effect is not None and _is_harmful(effect, character):
                self._harmful.add(character)


def _is_harmful(effect: str, character: str) -> bool:
    return effect != "changed" or character in ("\n", "\t", DOUBLE_SPACE)


def _effect(
    tokenizer: PreTrainedTokenizerBase, character: str, word: list[int], single: list[int]
) -> tuple[Effect | None, str]:
    """What becomes of a character, None if it survives, and the text in its place."""
    unknown = tokenizer.unk_token_id
    # An accent that is put on a letter has no meaning of its own.
    combining = unicodedata.category(character[0])[0] == "M"
    if unknown is not None and (unknown in word or (unknown in single and not combining)):
        return "unknown", ""
    back = _decode(tokenizer, word).strip()
    if unicodedata.normalize("NFC", back) == unicodedata.normalize("NFC", f"a{character}b"):
        return None, character
    becomes = back[1:-1] if back[:1] == "a" and back[-1:] == "b" else back
    return ("changed", becomes) if becomes else ("lost", "")


def _decode(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def _is_half(character: str) -> bool:
    """Half of a character in UTF-16, which no tokenizer takes; it is replaced before encoding."""
    return "\ud800" <= character[0] <= "\udfff"


def _name(character: str) -> str:
    known = _NAMES.get(character)
    return known or unicodedata.name(character, f"U+{ord(character[0]):04X}").lower()

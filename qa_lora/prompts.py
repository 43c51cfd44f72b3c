"""The one way from a question to the text a model reads: in training, answering and scoring."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from qa_lora.errors import ModelError

__all__ = ["PROMPT_FILE", "PromptTemplate", "is_blank"]

PROMPT_FILE = "prompt.json"


@dataclass(frozen=True)
class PromptTemplate:
    """Templates with {question}, {context} and {answer} in them; saved beside the adapter."""

    prompt: str = "Answer this question: {question}"
    context_prompt: str = " Context: {context}"
    history_prompt: str = "Question: {question} Answer: {answer} "

    def render(
        self, question: str, context: str = "", history: Sequence[tuple[str, str]] = ()
    ) -> str:
        """Build the prompt text.

        Braces in the question, the context or earlier turns stay as they are.

        Args:
            question: The question.
            context: A passage to read, or nothing.
            history: Earlier turns as (question, answer), oldest first.
        """
        parts = [_fill(self.history_prompt, question=q, answer=a) for q, a in history]
        parts.append(_fill(self.prompt, question=question))
        if context:
            parts.append(_fill(self.context_prompt, context=context))
        return "".join(parts)

    def save(self, folder: Path) -> None:
        """Write ``prompt.json`` into an adapter's folder."""
        (folder / PROMPT_FILE).write_text(json.dumps(asdict(self), indent=2) + "\n", "utf-8")

    @classmethod
    def load(cls, folder: Path) -> PromptTemplate:
        """Read ``prompt.json``; the default template if an adapter came without one.

        Raises:
            ModelError: If the file is there and cannot be understood.
        """
        path = folder / PROMPT_FILE
        if not path.exists():
            return cls()
        try:
            template = cls(**json.loads(path.read_text("utf-8")))
            if not all(isinstance(text, str) for text in vars(template).values()):
                raise TypeError
            return template
        except (OSError, ValueError, TypeError):
            raise ModelError(
                f"The prompt file {path} is damaged.",
                "It must hold prompt, context_prompt and history_prompt.",
            ) from None


def _fill(template: str, **values: str) -> str:
    """Replace {name} by its value in one pass, so that braces inside a value stay text."""
    pieces = []
    rest = template
    while rest:
        at, name = min(
            ((rest.find(f"{{{name}}}"), name) for name in values if f"{{{name}}}" in rest),
            default=(-1, ""),
        )
        if at < 0:
            break
        pieces += [rest[:at], values[name]]
        rest = rest[at + len(name) + 2 :]
    return "".join([*pieces, rest])


def is_blank(text: str) -> bool:
    """Whether there is nothing to see in it: white space, control and format characters."""
    return all(char.isspace() or unicodedata.category(char) in ("Cc", "Cf") for char in text)

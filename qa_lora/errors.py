"""What a person can be told.

QALoRAError
├── ConfigError     a setting is out of bounds or contradicts another
├── DataError       a source of questions and answers cannot be used as it is
├── ModelError      a base model or an adapter cannot be loaded or used
├── RunError        a run is missing, damaged, busy or cannot be written
└── TrainingError   a training cannot go on
    └── NonFiniteLossError   its loss is no longer a number
"""

from __future__ import annotations

from qa_lora.secrets import redact

__all__ = [
    "ConfigError",
    "DataError",
    "ModelError",
    "NonFiniteLossError",
    "QALoRAError",
    "RunError",
    "TrainingError",
    "first_line",
    "shorten",
]


class QALoRAError(Exception):
    """A problem the user can act on. No token is in its text, whatever a library has said.

    Args:
        message: One clear sentence: what is wrong and where.
        hint: One sentence: what would be right. Empty when the message says it all.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        message, hint = redact(message), redact(hint)
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class ConfigError(QALoRAError):
    """A setting is out of bounds or contradicts another one."""


class DataError(QALoRAError):
    """A source of questions and answers cannot be used as it is."""


class ModelError(QALoRAError):
    """A base model or an adapter cannot be loaded or used."""


class RunError(QALoRAError):
    """A run is missing, damaged, busy or cannot be written."""


class TrainingError(QALoRAError):
    """A training cannot go on."""


class NonFiniteLossError(TrainingError):
    """The loss is no longer a number; a lower learning rate may keep it one."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what}; what was saved before it is kept.",
            "Try a lower learning rate, a longer warm-up, or fp32; with on_nonfinite_loss set to "
            "retry it goes back once by itself.",
        )


def first_line(error: BaseException) -> str:
    """The first line of a library's error, without full stop or tokens, to quote in a sentence."""
    return redact((str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".:!"))


def shorten(text: str, length: int = 80) -> str:
    """A text of any length, such as a pasted file, as it can be quoted in a sentence."""
    return text if len(text) <= length else f"{text[: length - 1]}…"

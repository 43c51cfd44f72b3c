"""What ships with QA LoRA: the `pocket` model, the `atlas` questions, and what made them.

Importing this package loads nothing heavy; it only names where things lie.
"""

from pathlib import Path

POCKET = Path(__file__).parent / "pocket"
"""A transformers folder: `AutoModelForSeq2SeqLM.from_pretrained(POCKET)` loads it."""

ATLAS = Path(__file__).parent / "atlas" / "atlas.jsonl"
"""Questions and friendly answers, one JSON object a line, with a `split` key."""

UNKNOWN_ANSWER = "I do not know."
"""The one sentence with which `pocket` says that a question is outside its knowledge."""

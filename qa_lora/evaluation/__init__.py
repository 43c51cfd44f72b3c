"""Held-out questions to answers to scores: does the adapter answer better than its base?"""

from qa_lora.evaluation.stream import Progress, evaluate, evaluate_stream

__all__ = ["Progress", "evaluate", "evaluate_stream"]

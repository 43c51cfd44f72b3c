"""Answers to many questions at once, for evaluation: greedy T5 by hand, all else by `generate`."""

from qa_lora.decoding.many import BATCH_TOKENS, answer_all

__all__ = ["BATCH_TOKENS", "answer_all"]

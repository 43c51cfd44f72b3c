"""Answers to many questions at once, for evaluation: greedy T5 by hand, all else by `generate`."""

from qa_lora.decoding.many import answer_all, bytes_of_a_token, usual_tokens

__all__ = ["answer_all", "bytes_of_a_token", "usual_tokens"]

"""T5 with a LoRA adapter, computed over rows packed end to end: no padding, backward by hand.

Gives what transformers and peft give, in loss and gradients, in a part of their time: every matrix
product runs over real tokens only, nothing is computed that only a frozen weight's gradient would
need, and what a backward pass needs again is either kept once or cheap to make again.
"""

from qa_lora.packed.model import PackedModel, why_not

__all__ = ["PackedModel", "why_not"]

"""The shape of the two-layer T5 that tests train."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import T5Config


def t5_config(vocab_size: int) -> T5Config:
    """Gated GELU as in FLAN-T5, 32 channels; pad, end and unknown are ids 0, 1 and 2."""
    from transformers import T5Config

    return T5Config(
        vocab_size=vocab_size,
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
    )

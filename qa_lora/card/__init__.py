"""The README.md of an adapter: written from its run, for its folder and for the Hub."""

from qa_lora.card.facts import CardFacts, gather
from qa_lora.card.plot import loss_plot
from qa_lora.card.text import adapter_card, default_examples, write_card

__all__ = [
    "CardFacts",
    "adapter_card",
    "default_examples",
    "gather",
    "loss_plot",
    "write_card",
]

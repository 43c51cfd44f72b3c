"""The matrices a T5 has a row of for each token, of which a few rows may be trained."""

from __future__ import annotations

from typing import Any

import torch

from qa_lora.packed.linear import accumulate

__all__ = ["TokenMatrix"]


class TokenMatrix:
    """A frozen (V, D) matrix: the embedding of encoder or decoder, or the lm_head.

    Args:
        module: The layer, or peft's wrapper of it (``trainable_token_indices``), whose rows stand
            in for those of the matrix.
    """

    def __init__(self, module: Any) -> None:
        adapter = getattr(module, "token_adapter", None)
        layer = module if adapter is None else adapter.get_base_layer()
        self.weight: torch.Tensor = layer.weight.detach()
        self.rows: torch.nn.Parameter | None = None
        if adapter is not None:
            name = adapter.active_adapters[0]
            self.rows = adapter.trainable_tokens_delta[name]
            self.indices = torch.tensor(adapter.token_indices[name], device=self.weight.device)

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """(N, D) in fp32, of ids (N,)."""
        x = self.weight[ids].float()
        if self.rows is not None:
            found, which = self._trained(ids)
            x[found] = self.values()[which].float()
        return x

    def embed_backward(self, ids: torch.Tensor, grad: torch.Tensor) -> None:
        """Add to the gradient of the trained rows, given that of `embed`'s output."""
        if self.rows is None:
            return
        found, which = self._trained(ids)
        grad_rows = torch.zeros_like(self.rows, dtype=grad.dtype)
        accumulate(self.rows, grad_rows.index_add_(0, which, grad[found]))

    def values(self) -> torch.Tensor:
        """(K, D), the trained rows in the matrix's number format, as peft puts them there."""
        assert self.rows is not None
        return self.rows.detach().to(self.weight.dtype)

    def _trained(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Positions of ids that have a trained row, and which."""
        position, which = (ids[:, None] == self.indices).nonzero(as_tuple=True)
        return position, which

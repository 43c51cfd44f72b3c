"""Packed rows give what transformers and peft give over padded ones."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch.nn import functional as F
from transformers import T5Config, T5ForConditionalGeneration

from qa_lora.adapters import training_mode
from qa_lora.batching import IGNORED, EncodedExample, collate
from qa_lora.packed import PackedModel, why_not
from qa_lora.packed.linear import keep_mask
from qa_lora.packed.loss import head_loss
from qa_lora.packed.tokens import TokenMatrix
from qa_lora.token_rows import row_indices

V = 101
ROWS = [(3, 7), (20, 2), (1, 30), (11, 11), (12, 11), (5, 28), (2, 1)]
"""Source and target tokens of each row, end tokens not counted."""


def make_rows(lengths: list[tuple[int, int]], seed: int = 0) -> list[EncodedExample]:
    draw = random.Random(seed)
    return [
        EncodedExample(
            [*(draw.randrange(3, V) for _ in range(source)), 1],
            [*(draw.randrange(3, V) for _ in range(target)), 1],
        )
        for source, target in lengths
    ]


def make_model(
    *,
    tied: bool = True,
    act: str = "gated-gelu",
    targets: Any = ("q", "v"),
    tokens: Sequence[int] = (),
    **lora: Any,
) -> PeftModel:
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=V,
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=3,
        num_decoder_layers=2,
        num_heads=4,
        feed_forward_proj=act,
        decoder_start_token_id=0,
    )
    base = T5ForConditionalGeneration(config)
    if not tied:  # as FLAN-T5 is stored
        config.scale_decoder_outputs = False
        base.lm_head.weight = torch.nn.Parameter(torch.randn(V, 32) * 0.3)
    base.requires_grad_(False)
    options = {"r": 4, "lora_alpha": 16, "lora_dropout": 0.0, **lora}
    options["trainable_token_indices"] = row_indices(base, tokens)
    wanted = targets if isinstance(targets, str) else list(targets)
    model = get_peft_model(
        base, LoraConfig(task_type="SEQ_2_SEQ_LM", target_modules=wanted, **options)
    )
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
        elif "trainable_tokens" in name:
            torch.nn.init.normal_(parameter)
    assert isinstance(model, PeftModel)
    return model.eval()


def plain_loss(
    model: PeftModel, rows: list[EncodedExample], label_smoothing: float = 0.0
) -> torch.Tensor:
    """transformers' and peft's own forward pass over padded rows."""
    batch = collate(rows, 0)
    logits = model(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        decoder_input_ids=model.get_base_model().prepare_decoder_input_ids_from_labels(
            labels=batch.labels
        ),
    ).logits
    real = batch.labels != IGNORED
    return F.cross_entropy(
        logits[real], batch.labels[real], reduction="sum", label_smoothing=label_smoothing
    )


def gradients(model: PeftModel) -> dict[str, torch.Tensor]:
    return {
        name: parameter.grad.clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


@pytest.mark.parametrize("tokens", [(), (7, 50, 9)], ids=["no rows", "rows"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("act", ["gated-gelu", "relu"])
@pytest.mark.parametrize(
    ("targets", "label_smoothing"),
    [
        (("q", "v"), 0.0),
        ("all-linear", 0.0),
        ("all-linear", 0.1),
        (("wi_0", "wi_1", "wi", "k"), 0.0),
        (r".*decoder\.block\.1\.layer\.1\.EncDecAttention\.q", 0.0),
        (r".*decoder\.block\.0\.layer\.1\.EncDecAttention\.v", 0.0),
        (r".*encoder\.block\.1\.layer\.1\.DenseReluDense\.wo", 0.0),
    ],
)
def test_loss_and_gradients_equal_those_of_transformers_and_peft(
    tied: bool, act: str, targets: Any, label_smoothing: float, tokens: Sequence[int]
) -> None:
    if isinstance(targets, tuple) and "wi" in targets:
        targets = [t for t in targets if t not in (("wi",) if "gated" in act else ("wi_0", "wi_1"))]
    model = make_model(tied=tied, act=act, targets=targets, tokens=tokens)
    rows = make_rows(ROWS)
    plain = plain_loss(model, rows, label_smoothing)
    (plain * 0.01).backward()
    wanted = gradients(model)
    model.zero_grad()

    packed = PackedModel(model)
    total = packed.loss_and_gradients(rows, scale=0.01, label_smoothing=label_smoothing)
    assert float(total) == pytest.approx(plain.item(), rel=1e-5)
    got = gradients(model)
    assert got.keys() == wanted.keys() and wanted
    for name, grad in wanted.items():
        assert torch.allclose(got[name], grad, rtol=0, atol=1e-5 * float(grad.abs().max())), name
    assert float(packed.loss(rows)) == pytest.approx(plain_loss(model, rows).item(), rel=1e-5)


def test_rows_no_token_of_the_batch_uses_get_a_gradient_through_the_head() -> None:
    model = make_model(tied=False, tokens=(98, 99))
    rows = [EncodedExample([5, 6, 1], [7, 1])]
    PackedModel(model).loss_and_gradients(rows, scale=1.0)
    found = {name: float(grad.abs().sum()) for name, grad in gradients(model).items()}
    rows_found = {name: total for name, total in found.items() if "trainable_tokens" in name}
    assert len(rows_found) == 3  # as autograd: zeros, not nothing, where no token comes in
    assert {"lm_head" in name for name, total in rows_found.items() if total} == {True}


def test_gradients_add_up_over_micro_batches() -> None:
    model = make_model(targets="all-linear")
    rows = make_rows(ROWS)
    packed = PackedModel(model)
    whole = packed.loss_and_gradients(rows, scale=1.0)
    wanted = gradients(model)
    model.zero_grad()
    parts = [packed.loss_and_gradients(rows[i : i + 2], scale=1.0) for i in range(0, len(rows), 2)]
    assert float(sum(parts)) == pytest.approx(float(whole), rel=1e-6)
    for name, grad in gradients(model).items():
        assert torch.allclose(grad, wanted[name], rtol=0, atol=1e-5 * float(grad.abs().max()))


def test_the_model_itself_answers_as_before() -> None:
    model = make_model(tied=False, targets="all-linear")
    rows = make_rows(ROWS)
    before = plain_loss(model, rows)
    weights = {name: p.clone() for name, p in model.named_parameters()}
    PackedModel(model).loss_and_gradients(rows, scale=1.0)
    assert all(torch.equal(p, weights[name]) for name, p in model.named_parameters())
    assert torch.equal(plain_loss(model, rows), before)


def test_weights_lie_side_by_side_and_take_no_memory_of_their_own() -> None:
    model = make_model()
    PackedModel(model)
    attention = model.get_base_model().encoder.block[0].layer[0].SelfAttention
    storages = [
        layer.weight.untyped_storage().data_ptr()
        for layer in (attention.q.base_layer, attention.k, attention.v.base_layer)
    ]
    assert len(set(storages)) == 1


def test_rows_of_many_lengths_do_not_see_each_other() -> None:
    model = make_model()
    packed = PackedModel(model)
    rows = make_rows([(1 + i % 17, 1 + (7 * i) % 23) for i in range(40)])
    one_by_one = sum(float(packed.loss([row])) for row in rows)
    assert float(packed.loss(rows)) == pytest.approx(one_by_one, rel=1e-5)


def test_dropout_reaches_the_adapter_only_and_follows_the_seed() -> None:
    model = make_model(lora_dropout=0.5)
    rows = make_rows(ROWS)
    packed = PackedModel(model)
    training_mode(model, base_dropout=False)

    def run(seed: int) -> tuple[float, dict[str, torch.Tensor]]:
        torch.manual_seed(seed)
        model.zero_grad()
        return float(packed.loss_and_gradients(rows, scale=1.0)), gradients(model)

    (one, grad), (again, grad_again), (other, _) = run(1), run(1), run(2)
    assert one == again != other
    assert all(torch.equal(grad[name], grad_again[name]) for name in grad)
    mean = sum(run(seed)[0] for seed in range(200)) / 200
    assert mean == pytest.approx(float(packed.loss(rows)), rel=0.02)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.zeros_(parameter)
    assert run(1)[0] == run(2)[0]


@pytest.mark.parametrize("dropout", [0.1, 0.5, 0.9])
def test_masks_keep_the_share_they_say(dropout: float) -> None:
    torch.manual_seed(0)
    mask, kept = keep_mask(torch.Size((1000, 333)), dropout, torch.device("cpu"))
    assert kept == pytest.approx(1 - dropout, abs=1e-5)
    assert float(mask.float().mean()) == pytest.approx(kept, abs=0.003)
    # Neighbours come from one random number; they must not resemble each other.
    both = (mask[:, :-1] & mask[:, 1:]).float().mean()
    assert float(both) == pytest.approx(kept * kept, abs=0.005)


def test_head_loss_stays_exact_for_logits_far_apart() -> None:
    torch.manual_seed(0)
    hidden = (torch.randn(7, 16) * 40).requires_grad_()
    weight, labels = torch.randn(V, 16), torch.randint(0, V, (7,))
    wanted = F.cross_entropy(hidden @ weight.t(), labels, reduction="sum")
    wanted.backward()
    head = TokenMatrix(torch.nn.Linear(16, V, bias=False))
    head.weight = weight
    total, grad = head_loss(hidden.detach(), head, labels, grad_scale=1.0)
    assert float(total) == pytest.approx(wanted.item(), rel=1e-5)
    assert grad is not None and hidden.grad is not None
    assert torch.allclose(grad, hidden.grad, atol=1e-4)


def test_what_cannot_be_packed_says_why() -> None:
    assert why_not(make_model()) is None
    assert "no plain LoRA" in (why_not(make_model(use_dora=True)) or "")
    assert "nothing" in (why_not(make_model().requires_grad_(False)) or "")
    head = make_model(modules_to_save=["lm_head"], tied=False)
    assert "lm_head" in (why_not(head) or "")
    with pytest.raises(ValueError, match="no plain LoRA"):
        PackedModel(make_model(use_dora=True))

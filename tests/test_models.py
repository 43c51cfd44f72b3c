"""Base models: the right ones load as they are, all others are refused in one sentence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import qa_lora.models as models
from qa_lora.catalog import MODELS
from qa_lora.devices import choose_dtype
from qa_lora.errors import ModelError
from qa_lora.models import load_base, load_tokenizer

CPU = torch.device("cpu")


@pytest.fixture
def copy(tiny_model: Path, tmp_path: Path) -> Path:
    """A model's folder to damage."""
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def refusal(model: object) -> str:
    with pytest.raises(ModelError) as caught:
        load_base(str(model), precision="fp32", device=CPU)
    text = str(caught.value)
    assert "\n" not in text and ".. " not in text
    return text


def rewrite(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | values), "utf-8")


def test_a_folder_loads_frozen_and_ready_to_answer(tiny_model: Path) -> None:
    loaded = load_base(str(tiny_model), precision="fp32", device=CPU)
    assert loaded.device == CPU and loaded.dtype is torch.float32
    assert not loaded.model.training
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    stored = load_file(tiny_model / "model.safetensors")
    state = loaded.model.state_dict()
    assert all(torch.equal(state[name], value) for name, value in stored.items())
    ids = loaded.tokenizer("blue sky")["input_ids"]
    assert ids == load_tokenizer(str(tiny_model))("blue sky")["input_ids"]


@pytest.mark.parametrize("precision", ["auto", "bf16", "fp32"])
@pytest.mark.parametrize("stored", [torch.float32, torch.float16, torch.bfloat16])
def test_no_weight_is_ever_in_fp16(copy: Path, precision: str, stored: torch.dtype) -> None:
    weights = load_file(copy / "model.safetensors")
    halved = {name: value.to(stored) for name, value in weights.items()}
    save_file(halved, copy / "model.safetensors", {"format": "pt"})
    rewrite(copy, dtype=str(stored).removeprefix("torch."))
    loaded = load_base(str(copy), precision=precision, device=CPU)
    wanted = {"bf16": torch.bfloat16, "fp32": torch.float32}
    assert {p.dtype for p in loaded.model.parameters()} == {loaded.dtype}
    assert loaded.dtype is wanted.get(precision, choose_dtype("auto", CPU))
    assert loaded.dtype is not torch.float16


def test_auto_takes_bf16_only_where_the_hardware_multiplies_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for amx, avx in ((False, False), (True, False), (False, True)):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda amx=amx: amx)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda avx=avx: avx)
        expected = torch.bfloat16 if amx or avx else torch.float32
        assert choose_dtype("auto", CPU) is expected
        assert choose_dtype("fp32", CPU) is torch.float32
        assert choose_dtype("bf16", CPU) is torch.bfloat16


def test_the_bundled_model_keeps_its_name_not_its_place(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(models, "POCKET", tiny_model)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pocket").mkdir()  # a folder of that name does not hide it
    assert load_base("pocket", precision="fp32").model.name_or_path == "pocket"
    monkeypatch.setattr(models, "POCKET", tmp_path / "pocket")
    message = refusal("pocket")
    assert message.startswith("The model pocket cannot be loaded: ") and "Hub" not in message


def test_a_folder_in_the_home_folder(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tiny_model.parent))
    assert load_base(f"~/{tiny_model.name}", precision="fp32").dtype is torch.float32


@pytest.mark.parametrize(
    "name", ["/nowhere/at/all", "a/b/c", "two words", "a\0b", "a/../b/c", "é/é/é"]
)
def test_a_folder_that_is_not_there(name: str) -> None:
    assert refusal(name) == (
        f"There is no folder {name}, and it cannot be a Hub id. Give a model's folder, a Hub id "
        "such as google/flan-t5-base, or pocket."
    )


@pytest.mark.parametrize("name", ["~no-such-user-here/model", "m" * 5000])
def test_a_name_that_cannot_be_looked_up(name: str) -> None:
    message = refusal(name)
    assert message.startswith("The model ") and " cannot be looked up: " in message
    assert len(message) < 200


def test_a_hub_id_without_network() -> None:
    name = "nobody-at-all-here/no-such-model-anywhere"
    for load in (load_base, load_tokenizer):
        with pytest.raises(ModelError) as caught:
            load(name)
        message = str(caught.value)
        assert f"The model {name} " in message and "Hub" in message and "pocket" in message
        assert "\n" not in message


def test_a_folder_without_a_config(tmp_path: Path) -> None:
    assert refusal(tmp_path) == (
        f"The folder {tmp_path} is no model: it has no config.json. Give a folder that "
        "save_pretrained wrote, a Hub id, or pocket."
    )


def test_a_file_is_no_model(copy: Path) -> None:
    path = copy / "model.safetensors"
    assert refusal(path).startswith(f"{path} is a file, not a model.")


@pytest.mark.parametrize("config", ["", "{", "{}", "[]", '{"model_type": "dreamt"}'])
def test_a_damaged_config(copy: Path, config: str) -> None:
    (copy / "config.json").write_text(config)
    assert refusal(copy).startswith(f"The model {copy} cannot be loaded: ")


def test_a_model_without_an_encoder(copy: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=300, n_embd=16, n_layer=1, n_head=2, n_positions=16)
    GPT2LMHeadModel(config).save_pretrained(copy)
    assert refusal(copy) == (
        f"The model {copy} is a gpt2 model without an encoder. Choose an encoder-decoder model "
        "such as google/flan-t5-base."
    )


def test_another_encoder_decoder_model_loads(copy: Path) -> None:
    from transformers import BartConfig, BartForConditionalGeneration

    shape = dict.fromkeys(["encoder_layers", "decoder_layers"], 1)
    shape |= dict.fromkeys(["encoder_attention_heads", "decoder_attention_heads"], 2)
    shape |= dict.fromkeys(["encoder_ffn_dim", "decoder_ffn_dim", "d_model"], 16)
    config = BartConfig(vocab_size=300, max_position_embeddings=32, **shape)
    BartForConditionalGeneration(config).save_pretrained(copy)
    assert load_base(str(copy), precision="fp32").model.config.model_type == "bart"


def test_damaged_weights(copy: Path) -> None:
    path = copy / "model.safetensors"
    whole = path.read_bytes()
    for damaged in (whole[:-100], whole[:4], b"", b"\xff" * 1000, b"not tensors at all"):
        path.write_bytes(damaged)
        assert refusal(copy).startswith(f"The model {copy} is damaged: ")


def test_a_missing_tensor_is_not_made_up(copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    del weights["decoder.block.1.layer.0.SelfAttention.q.weight"]
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    assert refusal(copy) == (
        f"The model {copy} is damaged: 1 of its tensors are missing, such as "
        "decoder.block.1.layer.0.SelfAttention.q.weight."
    )


def test_a_tensor_of_another_shape(copy: Path) -> None:
    rewrite(copy, d_ff=32)
    assert refusal(copy).startswith(f"The model {copy} cannot be loaded: ")


class Trap:
    """Unpickling it leaves a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, (f"open({str(self.trace)!r}, 'w').close()",)


def test_pickled_weights_are_not_read(copy: Path, tmp_path: Path) -> None:
    torch.save({"shared.weight": Trap(tmp_path / "trace")}, copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    message = refusal(copy)
    assert message.startswith(f"The model {copy} cannot be loaded: ") and "safetensors" in message
    assert not (tmp_path / "trace").exists()


def test_a_models_own_code_is_neither_run_nor_asked_about(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: object) -> str:
        raise AssertionError("a question nobody sees")

    monkeypatch.setattr("builtins.input", asked)
    trace = tmp_path / "trace"
    (copy / "own.py").write_text(f"open({str(trace)!r}, 'w').close()\n")
    rewrite(copy, model_type="dreamt", auto_map={"AutoConfig": "own.Config"})
    assert refusal(copy).startswith(f"The model {copy} cannot be loaded: ")
    assert not trace.exists()


def test_a_folder_without_a_tokenizer(copy: Path) -> None:
    for path in copy.glob("tokenizer*"):
        path.unlink()
    assert refusal(copy).startswith(f"The model {copy} has no tokenizer.")


def test_a_damaged_tokenizer(copy: Path) -> None:
    (copy / "tokenizer.json").write_text("{")
    assert refusal(copy).startswith(f"The model {copy} cannot be loaded: ")


def test_loading_leaves_the_progress_bars_as_they_were(tiny_model: Path, copy: Path) -> None:
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    (copy / "model.safetensors").write_bytes(b"")
    for model in (tiny_model, copy):
        try:
            load_base(str(model), precision="fp32")
        except ModelError:
            assert model is copy
        assert logging.is_progress_bar_enabled() is shown


def test_the_list_of_models_says_what_they_weigh() -> None:
    from transformers import T5Config, T5ForConditionalGeneration

    shapes = {
        "small": (512, 1024, 8, 6),
        "base": (768, 2048, 12, 12),
        "large": (1024, 2816, 24, 16),
    }
    listed = {choice.id.removeprefix("google/flan-t5-"): choice for choice in MODELS}
    for size, (width, inner, layers, heads) in shapes.items():
        config = T5Config(
            vocab_size=32_128,
            d_model=width,
            d_ff=inner,
            num_layers=layers,
            num_heads=heads,
            feed_forward_proj="gated-gelu",
        )
        with torch.device("meta"):
            model = T5ForConditionalGeneration(config)
        # FLAN-T5 has a head of its own, where a model built from scratch shares the embedding.
        parameters = sum(p.numel() for p in model.parameters()) + 32_128 * width
        assert listed[size].parameters == parameters
    assert listed["large"].description == "783 M parameters"
    assert listed["xl"].description.startswith("2.85 B parameters")

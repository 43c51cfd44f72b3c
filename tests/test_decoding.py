"""Many answers at once are those that `generate` gives row by row."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from qa_lora.adapters import attach_lora
from qa_lora.data.example import QAExample
from qa_lora.decoding import answer_all, many, usual_tokens
from qa_lora.decoding.greedy import GreedyBatch
from qa_lora.decoding.model import StepModel, TokenRows
from qa_lora.decoding.support import why_not
from qa_lora.encoding import Prompt, fit_prompts
from qa_lora.errors import ModelError
from qa_lora.generation import Answer, GenerationSettings, generate_batch
from qa_lora.models import load_base
from qa_lora.prompts import PromptTemplate
from qa_lora.whitespace import with_tokens
from tests import flan_like, lively

QUESTIONS = [
    "What is blue?",
    "Why?",
    "sky " * 30,
    "Is the sky 12?",
    "é 🙂\nand\na list",
    "What colour is the sky, and why is it not the colour of the sea?",
    "sky " * 29,
    *(f"How do I make tea {i}?" for i in range(4)),
]
GREEDY = GenerationSettings(max_new_tokens=34)


@pytest.fixture(scope="module")
def tied(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lively.make_model(tiny_model, tmp_path_factory.mktemp("tied"))


@pytest.fixture(scope="module")
def untied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Like FLAN-T5, with answers of all lengths."""
    folder = flan_like.make_model(tmp_path_factory.mktemp("untied"))
    loaded = load_base(str(folder), precision="fp32")
    torch.manual_seed(0)
    with torch.no_grad():
        for name, weights in loaded.model.named_parameters():
            if "layer_norm" not in name:
                weights.copy_(4 * weights.std() * torch.randn_like(weights))
        loaded.model.lm_head.weight[1] *= 1.8
    loaded.model.save_pretrained(folder)
    return folder


def make(folder: Path, precision: str = "fp32", *, whitespace: bool = False, **lora: Any) -> Any:
    """The model with an adapter "default", and the tokenizer of base and adapter."""
    loaded = load_base(str(folder), precision=precision)
    tokenizer = with_tokens(loaded.tokenizer) if whitespace else loaded.tokenizer
    settings = {"r": 4, "alpha": 8, "dropout": 0.1, "target_modules": "q,v"} | lora
    model = attach_lora(loaded.model, tokenizer=tokenizer, **settings)
    shake(model)
    return model.eval(), tokenizer


def shake(model: Any) -> None:
    """Give all that is trained values that matter."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "lora_B" in name:
                weights.copy_(0.5 * torch.randn_like(weights))
            if "trainable_tokens_delta" in name:
                weights.add_(weights.std() * torch.randn_like(weights))


def ask(tokenizer: Any) -> list[Prompt]:
    examples = [QAExample("", question, "") for question in QUESTIONS]
    return fit_prompts(tokenizer, PromptTemplate(), examples, 64)


def said(answer: Answer) -> tuple[str, int, bool, str]:
    return answer.text, answer.tokens, answer.cut, answer.notice


def row_by_row(model: Any, tokenizer: Any, adapter: str | None, **settings: Any) -> list[Any]:
    with model.disable_adapter() if adapter is None else nullcontext():
        return [
            said(
                generate_batch(model, tokenizer, [prompt], **({"max_new_tokens": 34} | settings))[0]
            )
            for prompt in ask(tokenizer)
        ]


def at_once(
    model: Any, tokenizer: Any, adapter: str | None, settings: Any = GREEDY, **options: Any
) -> list[Any]:
    found = list(
        answer_all(model, tokenizer, ask(tokenizer), settings=settings, adapter=adapter, **options)
    )
    assert sorted(i for i, _ in found) == list(range(len(QUESTIONS)))
    return [said(answer) for _, answer in sorted(found, key=lambda pair: pair[0])]


@pytest.mark.parametrize(
    ("shape", "lora"),
    [
        ("tied", {}),
        ("tied", {"target_modules": "all-linear", "use_rslora": True}),
        ("untied", {}),
        ("untied", {"target_modules": "q,v,wo", "whitespace": True}),
    ],
)
def test_same_tokens_as_generate_gives_row_by_row(
    shape: str, lora: Any, request: pytest.FixtureRequest
) -> None:
    model, tokenizer = make(request.getfixturevalue(shape), **lora)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    assert why_not(model, "default", GREEDY) is None
    expected = {adapter: row_by_row(model, tokenizer, adapter) for adapter in (None, "default")}
    assert expected[None] != expected["default"]
    for adapter, answers in expected.items():
        # Answers of many lengths, some empty or cut, are what rows leaving a batch must stand.
        assert len({tokens for _, tokens, _, _ in answers}) > 3
        assert at_once(model, tokenizer, adapter) == answers
        assert at_once(model, tokenizer, adapter, batch_tokens=300) == answers
    # Base is base, whoever answered before, and whatever the layers' weights are views of.
    assert row_by_row(model, tokenizer, None) == expected[None]
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name]), name


def test_each_of_several_adapters_answers_by_itself(tied: Path) -> None:
    model, tokenizer = make(tied)
    model.add_adapter("other", model.peft_config["default"])
    model.set_adapter("other")
    shake(model)
    other = row_by_row(model, tokenizer, "other")
    model.set_adapter("default")
    assert at_once(model, tokenizer, "other") == other
    assert at_once(model, tokenizer, "default") == row_by_row(model, tokenizer, "default") != other
    # Left to `generate`, too; and what was at work and trained is so afterwards.
    beams = GenerationSettings(max_new_tokens=6, num_beams=2)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    answers = at_once(model, tokenizer, "other", beams)
    assert {name for name, p in model.named_parameters() if p.requires_grad} == trained
    assert model.active_adapter == "default"
    model.set_adapter("other")
    assert answers == row_by_row(model, tokenizer, "other", max_new_tokens=6, num_beams=2)


def test_what_is_left_to_generate_gets_the_same_answers(tied: Path) -> None:
    model, tokenizer = make(tied, use_dora=True)
    assert why_not(model, "default", GREEDY) is not None
    settings = GenerationSettings(max_new_tokens=8)
    expected = row_by_row(model, tokenizer, "default", max_new_tokens=8)
    assert at_once(model, tokenizer, "default", settings) == expected
    assert why_not(model, None, GREEDY) is None
    assert at_once(model, tokenizer, None, settings) != expected


@pytest.mark.parametrize(
    ("setting", "value"),
    [("suppress_tokens", [7]), ("forced_bos_token_id", 5), ("bad_words_ids", [[9]])],
)
def test_what_a_model_says_of_its_own_generation_counts(
    tied: Path, setting: str, value: Any
) -> None:
    model, _ = make(tied)
    setattr(model.get_base_model().generation_config, setting, value)
    assert setting in (why_not(model, None, GREEDY) or "")


def test_bf16_is_as_close_as_generate_is(untied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logits: list[torch.Tensor] = []
    likeliest = TokenRows.likeliest

    def watched(head: TokenRows, hidden: torch.Tensor) -> torch.Tensor:
        logits.append(torch.mm(hidden, head.weight.t()).float())
        return likeliest(head, hidden)

    monkeypatch.setattr(TokenRows, "likeliest", watched)
    theirs = {}
    for precision in ("fp32", "bf16"):
        model, tokenizer = make(untied, precision, target_modules="all-linear")
        prompts = ask(tokenizer)
        start = torch.tensor([[0]])
        with torch.no_grad():
            rows = [
                model(input_ids=torch.tensor([prompt.ids]), decoder_input_ids=start).logits[0]
                for prompt in prompts
            ]
        theirs[precision] = torch.cat(rows).float()
    assert why_not(model, "default", GREEDY) is None
    settings = GenerationSettings(max_new_tokens=1)
    list(answer_all(model, tokenizer, prompts, settings=settings, adapter="default"))
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i].ids))
    ours_off, theirs_off = (
        (found - theirs["fp32"][order]).square().mean().sqrt()
        for found in (logits[0], theirs["bf16"][order])
    )
    assert 0 < ours_off < 1.5 * theirs_off


def test_more_than_one_end_token(tied: Path) -> None:
    model, tokenizer = make(tied)
    free = row_by_row(model, tokenizer, None)
    longest = max(free, key=lambda answer: answer[1])[0]
    token = tokenizer(longest)["input_ids"][len(longest) // 8]
    model.get_base_model().generation_config.eos_token_id = [1, token]
    expected = row_by_row(model, tokenizer, None)
    assert expected != free
    assert at_once(model, tokenizer, None) == expected


def test_stops_when_asked_and_keeps_what_has_ended(tied: Path) -> None:
    model, tokenizer = make(tied)
    whole = at_once(model, tokenizer, None)
    asked = iter([False] * 4)
    stop: Callable[[], bool] = lambda: next(asked, True)  # noqa: E731
    prompts = ask(tokenizer)
    found = dict(
        answer_all(model, tokenizer, prompts, settings=GREEDY, adapter=None, should_stop=stop)
    )
    assert 0 < len(found) < len(prompts)
    assert all(said(answer) == whole[i] for i, answer in found.items())
    assert all(answer.tokens < 16 for answer in found.values())


def test_stops_generate_when_asked(tied: Path) -> None:
    model, tokenizer = make(tied)
    asked = iter([False] * 3)
    answers = answer_all(
        model,
        tokenizer,
        ask(tokenizer),
        settings=GenerationSettings(num_beams=2, max_new_tokens=500),
        adapter=None,
        should_stop=lambda: next(asked, True),
    )
    assert list(answers) == []


def test_no_torch_context_is_open_while_the_caller_works(tied: Path) -> None:
    model, tokenizer = make(tied)
    for _ in answer_all(model, tokenizer, ask(tokenizer), settings=GREEDY, adapter="default"):
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
    # What it left behind can still be trained.
    loss = model(input_ids=torch.tensor([[5, 1]]), labels=torch.tensor([[6, 1]])).loss
    loss.backward()


def test_halves_a_batch_that_does_not_fit(tied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = make(tied)
    whole = at_once(model, tokenizer, "default")
    sizes: list[int] = []
    say = GreedyBatch._say

    def scarce(batch: GreedyBatch, steps: int) -> None:
        sizes.append(len(batch.rows))
        if len(batch.rows) > 4 and batch._length == 3:
            raise torch.OutOfMemoryError("out of memory")
        say(batch, steps)

    monkeypatch.setattr(GreedyBatch, "_say", scarce)
    assert at_once(model, tokenizer, "default") == whole
    assert max(sizes) == len(QUESTIONS)

    def nothing_fits(batch: GreedyBatch, steps: int) -> None:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(GreedyBatch, "_say", nothing_fits)
    with pytest.raises(ModelError, match="does not suffice for one answer"):
        at_once(model, tokenizer, "default")


def test_no_prompts_and_no_such_adapter(tied: Path) -> None:
    model, tokenizer = make(tied)
    assert list(answer_all(model, tokenizer, [], settings=GREEDY, adapter=None)) == []
    with pytest.raises(ModelError, match="no adapter nobody"):
        list(answer_all(model, tokenizer, ask(tokenizer), settings=GREEDY, adapter="nobody"))


def test_a_budget_bounds_the_rows_of_a_batch(tied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = make(tied)
    made: list[tuple[int, int]] = []

    class Watched(GreedyBatch):
        def __init__(self, model: Any, prompts: Any, *rest: Any) -> None:
            made.append((len(prompts), max(map(len, prompts))))
            super().__init__(model, prompts, *rest)

    monkeypatch.setattr(many, "GreedyBatch", Watched)
    at_once(model, tokenizer, None, batch_tokens=400)
    assert all(rows * (longest + 34) <= 400 for rows, longest in made)
    assert [longest for _, longest in made] == sorted((n for _, n in made), reverse=True)
    assert len(made) < len(QUESTIONS)


def test_weights_are_joined_once_and_take_no_room_of_their_own(tied: Path) -> None:
    model, _ = make(tied)
    attention = model.get_base_model().encoder.block[0].layer[0].SelfAttention
    parts = [attention.q.base_layer.weight, attention.k.weight, attention.v.base_layer.weight]
    first = StepModel(model, None).encoder[0][0].q.weight
    places = [part.data_ptr() for part in parts]
    assert places[0] == first.data_ptr()
    assert StepModel(model, "default").encoder[0][0].q.weight.data_ptr() == first.data_ptr()
    assert [part.data_ptr() for part in parts] == places
    assert torch.equal(first, torch.cat(parts))


def test_the_usual_batch_fits_the_memory_meant_for_it(tied: Path) -> None:
    model, _ = make(tied)
    a_token = 2 * 2 * 32 * 4  # keys and values of two layers, 32 numbers of four bytes each
    assert usual_tokens(model) == many.BATCH_BYTES["cpu"] // a_token

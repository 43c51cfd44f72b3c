"""Any number of adapters on one base in memory, and each answers as if it were alone."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from qa_lora import runs
from qa_lora.adapters import attach_lora, save_adapter
from qa_lora.answering import Answer, Answerer, GenerationSettings, load
from qa_lora.base_names import same_base
from qa_lora.checksums import write_checksums
from qa_lora.config import TrainConfig
from qa_lora.data.example import QAExample
from qa_lora.errors import ConfigError, ModelError, QALoRAError
from qa_lora.models import load_base
from qa_lora.prompts import PromptTemplate
from qa_lora.whitespace import with_tokens
from tests.flan_like import make_model as make_flan
from tests.lively import make_adapter, make_model

QUESTIONS = ["What is blue?", "Why?", "sky " * 12, "Is the sky 12?"]
EXAMPLES = [QAExample(id=str(i), question=q, answer="") for i, q in enumerate(QUESTIONS)]
SHORT = GenerationSettings(max_new_tokens=10)


@pytest.fixture(scope="module")
def model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tiny_model, tmp_path_factory.mktemp("lively-t5"))


@pytest.fixture(scope="module")
def folders(model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    around = tmp_path_factory.mktemp("adapters")
    made = {
        "first": make_adapter(model, around / "first"),
        "second": make_adapter(model, around / "second", target_modules="k,wi_0", r=2, seed=2),
        "third": make_adapter(model, around / "third", target_modules="all-linear", seed=3),
        "dora": make_adapter(model, around / "dora", use_dora=True, seed=4),
    }
    PromptTemplate(prompt="Say it: {question}").save(made["second"])
    return made


def loaded(folders: dict[str, Path], *names: str) -> Answerer:
    first, *others = names
    answerer = load(folders[first], precision="fp32")
    answerer.settings = SHORT
    for name in others:
        assert answerer.add(folders[name]) == name
    return answerer


@pytest.fixture(scope="module")
def alone(folders: dict[str, Path]) -> dict[str, Answerer]:
    """Each adapter on a base of its own."""
    return {name: loaded(folders, name) for name in folders}


@pytest.fixture(scope="module")
def several(folders: dict[str, Path]) -> Answerer:
    """Three adapters on one base."""
    return loaded(folders, "first", "third", "dora")


def said(answer: Answer) -> tuple[str, int, bool, str]:
    return answer.text, answer.tokens, answer.cut, answer.notice


def structure(answerer: Answerer) -> list[tuple[str, str, str]]:
    """All of a model that an adapter could leave something in."""
    return [
        (name, type(module).__name__, str(getattr(module, "active_adapters", "")))
        for name, module in answerer.model.named_modules()
    ]


def logits(model: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=ids, decoder_input_ids=ids[:, :5]).logits


# --- several adapters answer together ---


def test_columns_that_stream_together_say_what_each_says_alone(folders, alone):
    answerer = loaded(folders, "first", "dora", "second", "third")
    assert answerer.systems == ("base", "tuned", "dora", "second", "third")
    by_system = {"tuned" if name == "first" else name: one for name, one in alone.items()}
    order = ["third", "base", "dora", "tuned", "second"]
    for question in QUESTIONS:
        steps = list(answerer.answer_together(question, systems=order))
        assert [step.done for step in steps] == [False] * (len(steps) - 1) + [True]
        assert all(list(step.answers) == order for step in steps)
        last = steps[-1].answers
        for name, other in by_system.items():
            assert said(last[name]) == said(other.answer(question))
        assert said(last["base"]) == said(alone["first"].answer(question, variant="base"))
        assert len({answer.text for answer in last.values()}) == len(order)
    grown = {name: [step.answers[name].tokens for step in steps] for name in order}
    assert all(counts == sorted(counts) for counts in grown.values())
    # Those that can share a batch grow at the same time; DoRA comes behind them.
    at = next(i for i, step in enumerate(steps) if step.answers["dora"].tokens)
    assert all(
        steps[at].answers[name].tokens == grown[name][-1] for name in order if name != "dora"
    )
    assert all(grown[name][1] for name in ("third", "base", "tuned", "second"))


def test_many_questions_are_answered_by_all(several):
    answerer = several
    rows = dict(answerer.answer_many(EXAMPLES))
    assert sorted(rows) == list(range(len(EXAMPLES)))
    for i, answers in rows.items():
        assert list(answers) == list(answerer.systems)
        for name, answer in answers.items():
            assert said(answer) == said(answerer.answer(QUESTIONS[i], variant=name))
    some = dict(answerer.answer_many(EXAMPLES, systems=["third"], batch_tokens=1))
    assert {i: said(row["third"]) for i, row in some.items()} == {
        i: said(row["third"]) for i, row in rows.items()
    }


def test_stopping_keeps_what_is_done(several):
    done: list[int] = []
    for i, _ in several.answer_many(EXAMPLES, batch_tokens=1, should_stop=lambda: len(done) > 1):
        done.append(i)
    assert len(done) == 2


def test_each_column_has_its_own_turns(several):
    answerer = several
    turns = {"tuned": [("Is it?", "It is.")], "third": [("Is it?", "No."), ("Why?", "Blue.")]}
    *_, last = answerer.answer_together("Why?", history=turns)
    for name in answerer.systems:
        single = answerer.answer("Why?", history=turns.get(name, ()), variant=name)
        assert said(last.answers[name]) == said(single)
    *_, same = answerer.answer_together("Why?", history=turns["tuned"])
    assert said(same.answers["third"]) != said(last.answers["third"])


def test_a_system_that_is_not_there(several):
    answerer = several
    for call in (
        lambda: next(answerer.answer_together("Why?", systems=["base", "other"])),
        lambda: answerer.answer("Why?", variant="other"),
        lambda: next(answerer.answer_many(EXAMPLES, systems=["other"])),
        lambda: answerer.remove("other"),
        lambda: answerer.run_of("other"),
    ):
        with pytest.raises(ConfigError, match=r"no system named other.*base, tuned, third, dora"):
            call()
    with pytest.raises(ConfigError, match="No system is asked"):
        next(answerer.answer_together("Why?", systems=[]))
    with pytest.raises(ConfigError, match="cannot be removed"):
        answerer.remove("tuned")


# --- base is base ---


def test_the_base_is_untouched_bit_for_bit_by_adapters_that_come_and_go(folders, model):
    ids = torch.tensor([[5, 9, 30, 8, 7, 1], [6, 11, 12, 13, 14, 1]])
    expected = logits(load_base(str(model), precision="fp32").model, ids)
    answerer = loaded(folders, "first")

    def check() -> None:
        with answerer.acting("base") as acting:
            assert torch.equal(logits(acting, ids), expected)
        # Rows of the base in a mixed batch, in the batch shape of the untouched model.
        slots = [who.slot for who in answerer._adapters.values() if who.mixes]
        for slot in slots:
            names = ["__base__", slot]
            with torch.no_grad():
                mixed = answerer.model(
                    input_ids=ids, decoder_input_ids=ids[:, :5], adapter_names=names
                ).logits
            assert torch.equal(mixed[0], expected[0]) and not torch.equal(mixed[1], expected[1])

    check()
    for name in ("second", "dora"):
        answerer.add(folders[name])
        check()
        list(answerer.answer_together("Why?"))
        check()
    answerer.remove("second")
    answerer.remove("dora")
    check()


# --- add and remove ---


def test_what_is_removed_leaves_nothing(folders, alone):
    answerer = loaded(folders, "first")
    before, keys = structure(answerer), sorted(answerer.model.state_dict())
    said_before = said(answerer.answer("Why?"))
    for name in ("second", "dora", "third"):
        answerer.add(folders[name])
    assert structure(answerer) != before
    for name in ("dora", "second", "third"):
        answerer.remove(name)
    assert structure(answerer) == before
    assert sorted(answerer.model.state_dict()) == keys
    assert answerer.systems == ("base", "tuned")
    assert said(answerer.answer("Why?")) == said_before
    assert answerer.add(folders["second"], name="again") == "again"
    assert said(answerer.answer("Why?", variant="again")) == said(alone["second"].answer("Why?"))


def test_names_are_unique_and_come_from_the_run_or_the_folder(folders, model, tmp_path):
    run = runs.create(TrainConfig.build(model=str(model), max_source_tokens=40), tmp_path / "runs")
    make_adapter(model, run.adapter, seed=5)
    answerer = loaded(folders, "first")
    assert answerer.add(run.id, runs_dir=tmp_path / "runs") == run.id
    found = answerer.run_of(run.id)
    assert found is not None and found.id == run.id
    assert answerer.run_of("tuned") is None and answerer.run_of("base") is None
    assert len(answerer.prompts([QAExample("", "sky " * 99, "")], run.id)[0].ids) == 40
    assert len(answerer.prompts([QAExample("", "sky " * 99, "")], "tuned")[0].ids) > 40
    for name in (run.id, "base", "tuned"):
        with pytest.raises(ConfigError, match="already"):
            answerer.add(folders["second"], name=name)
    with pytest.raises(ConfigError, match="blank"):
        answerer.add(folders["second"], name=" ")
    assert answerer.systems == ("base", "tuned", run.id)


def test_one_adapter_under_two_names_is_loaded_once(folders, alone):
    answerer = loaded(folders, "first", "second")
    answerer.add(folders["second"], name="twin")
    assert len(answerer.model.peft_config) == 2
    answerer.remove("second")
    assert said(answerer.answer("Why?", variant="twin")) == said(alone["second"].answer("Why?"))
    answerer.remove("twin")
    assert list(answerer.model.peft_config) == ["default"]


def test_another_run_takes_over_the_base(folders, alone):
    one = loaded(folders, "first", "third")
    base = one.model.get_base_model()
    two = one.sharing(folders["third"])
    two.settings = SHORT
    assert two.systems == ("base", "tuned")
    one.close()
    assert len(two.model.peft_config) == 1
    assert two.model.get_base_model() is base
    assert said(two.answer("Why?")) == said(alone["third"].answer("Why?"))
    base_says = said(alone["first"].answer("Why?", variant="base"))
    assert said(two.answer("Why?", variant="base")) == base_says
    assert two.add(folders["first"]) == "first"
    assert said(two.answer("Why?", variant="first")) == said(alone["first"].answer("Why?"))


# --- what is refused, and that nothing of it stays ---


def change(folder: Path, **values: object) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | values))


def rewrite(folder: Path, change_weights) -> None:
    path = folder / "adapter_model.safetensors"
    weights = load_file(path)
    change_weights(weights)
    save_file(weights, path)
    write_checksums(folder)


def drop_one(weights):
    weights.pop(sorted(weights)[-1])


def add_one(weights):
    weights["base_model.model.unknown.lora_A.weight"] = torch.zeros(4, 2)


def widen(weights):
    name = sorted(weights)[-1]
    weights[name] = torch.zeros(7, 3)


BAD = {
    "another base": (
        lambda f: change(f, base_model_name_or_path="google/flan-t5-xl"),
        "flan-t5-xl",
    ),
    "no base": (lambda f: change(f, base_model_name_or_path=None), "does not name its base"),
    "missing": (lambda f: rewrite(f, drop_one), "1 of its tensors"),
    "unknown": (lambda f: rewrite(f, add_one), "1 of its tensors"),
    "other shape": (lambda f: rewrite(f, widen), "does not fit"),
    "other rank": (lambda f: change(f, r=5), "its settings say rank 5, its weights have rank 4"),
    "task": (lambda f: change(f, task_type="CAUSAL_LM"), "for the task CAUSAL_LM"),
    "kind": (lambda f: change(f, peft_type="IA3"), "not LoRA"),
    "changed base": (lambda f: change(f, init_lora_weights="pissa"), "changes the base"),
    "layers": (lambda f: change(f, layer_replication=[[0, 1]]), "changes the base"),
    "targets": (lambda f: change(f, target_modules=["q", "nowhere.at.all"]), "does not fit"),
    "pickle": (
        lambda f: (f / "adapter_model.safetensors").rename(f / "adapter_model.bin"),
        "is a pickle",
    ),
    "checksum": (
        lambda f: (f / "adapter_model.safetensors").write_bytes(b"x"),
        "is damaged",
    ),
    "prompt": (lambda f: (f / "prompt.json").write_text("{"), "damaged"),
}


@pytest.fixture(scope="module")
def whole(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "adapter"
    return make_adapter(model, folder, target_modules="k,o", seed=6)


@pytest.mark.parametrize("case", BAD)
def test_what_is_refused_leaves_the_model_as_it_was(several, whole, tmp_path, case):
    spoil, says = BAD[case]
    folder = tmp_path / "bad"
    shutil.copytree(whole, folder)
    spoil(folder)
    answerer = several
    answer, before = said(answerer.answer("Why?")), structure(answerer)
    weights = {name: value.clone() for name, value in answerer.model.state_dict().items()}
    with pytest.raises(ModelError, match=says) as caught:
        answerer.add(folder)
    assert "\n" not in str(caught.value)
    assert structure(answerer) == before
    assert list(answerer.model.peft_config) == ["default", "more000", "more001"]
    assert answerer.systems == ("base", "tuned", "third", "dora")
    after = answerer.model.state_dict()
    assert weights.keys() == after.keys()
    assert all(torch.equal(weights[name], after[name]) for name in weights)
    assert said(answerer.answer("Why?")) == answer


def test_an_adapter_of_another_base_is_refused_with_both_names(several, tiny_model, tmp_path):
    folder = make_adapter(tiny_model, tmp_path / "other")
    with pytest.raises(ModelError) as caught:
        several.add(folder)
    assert str(tiny_model) in str(caught.value) and several.base in str(caught.value)


def test_names_of_one_base(model, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(model)
    cached = "/cache/hub/models--google--flan-t5-base/snapshots/0123abc"
    bundled = "/elsewhere/site-packages/qa_lora/bundled/pocket"
    monkeypatch.chdir(model.parent)
    for one, other in (
        (str(model), f"{model}/"),
        (str(model), str(tmp_path / "link")),
        (str(model), model.name),
        ("google/flan-t5-base", cached),
        ("pocket", bundled),
    ):
        assert same_base(one, other) and same_base(other, one)
    for one, other in (
        ("google/flan-t5-base", "google/flan-t5-large"),
        (str(model), "pocket"),
        (str(model), str(tmp_path)),
        ("~nobody-here/x", "pocket"),
        ("a" * 5000, "pocket"),
    ):
        assert not same_base(one, other)


# --- adapters with rows of their own in the embeddings ---


@pytest.fixture(scope="module", params=[False, True], ids=["untied", "tied"])
def flan(request, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_flan(tmp_path_factory.mktemp("flan") / "model", tied=request.param)


def make_rows(base: Path, folder: Path) -> Path:
    """An adapter with tokens for white space."""
    made = load_base(str(base), precision="fp32")
    tokenizer = with_tokens(made.tokenizer)
    tuned = attach_lora(
        made.model, r=4, alpha=8, dropout=0.0, target_modules="q,v", tokenizer=tokenizer
    )
    torch.manual_seed(7)
    with torch.no_grad():
        for name, weights in tuned.named_parameters():
            if "lora_B" in name or "trainable_tokens_delta" in name:
                weights.add_(0.5 * torch.randn_like(weights))
    save_adapter(
        tuned,
        folder,
        tokenizer=tokenizer,
        template=PromptTemplate(),
        card="# card",
        weights={name: p for name, p in tuned.named_parameters() if p.requires_grad},
    )
    return folder


@pytest.mark.parametrize("first", ["plain", "rows"])
def test_trained_rows_beside_a_plain_adapter(flan, tmp_path, first):
    folders = {
        "plain": make_adapter(flan, tmp_path / "plain"),
        "more": make_adapter(flan, tmp_path / "more", target_modules="k", seed=8),
        "rows": make_rows(flan, tmp_path / "rows"),
    }
    question = "What is the list?\n\n- first\n- then  tea"
    names = [first, "more", *({"plain", "rows"} - {first})]
    answerer = loaded(folders, *names)
    before = structure(loaded(folders, first, "more"))
    ids = torch.tensor([[5, 9, 30, 8, 7, 1], [6, 11, 12, 13, 14, 1]])
    expected = logits(load_base(str(flan), precision="fp32").model, ids)
    alone = {name: loaded(folders, name) for name in names}
    for _ in range(2):
        *_, last = answerer.answer_together(question)
        for system, name in zip(answerer.systems[1:], names, strict=True):
            one = alone[name]
            assert said(last.answers[system]) == said(one.answer(question))
            assert said(last.answers["base"]) == said(one.answer(question, variant="base"))
        with answerer.acting("base") as acting:
            assert torch.equal(logits(acting, ids), expected)
    answerer.remove(names[-1])
    assert structure(answerer) == before
    *_, less = answerer.answer_together(question)
    assert said(less.answers["tuned"]) == said(last.answers["tuned"])
    assert said(less.answers["more"]) == said(last.answers["more"])


# --- leaving ---


def test_leaving_stops_within_a_token_and_frees_the_model(several):
    endless = GenerationSettings(max_new_tokens=8000, min_new_tokens=8000)
    for steps in (1, 3):
        stream = several.answer_together("Why?", settings=endless)
        for _ in range(steps):
            last = next(stream)
        stream.close()
        assert not several._lock.locked()
        assert all(thread.name != "qa-lora-answer" for thread in threading.enumerate())
        assert not last.done and last.answers["dora"].tokens == 0


def test_one_who_waits_gets_the_model_when_another_leaves(several):
    endless = GenerationSettings(max_new_tokens=8000, min_new_tokens=8000)
    first = several.answer_together("Why?", settings=endless)
    next(first)
    got: list[str] = []
    waiter = threading.Thread(target=lambda: got.append(several.answer("Why?").text))
    waiter.start()
    waiter.join(0.1)
    assert waiter.is_alive() and not got
    first.close()
    waiter.join()
    assert got == [several.answer("Why?").text]


# --- settings ---


def test_a_seed_draws_the_same_answer_whatever_else_is_in_the_batch(several):
    answerer = several
    draw = GenerationSettings(
        max_new_tokens=10, do_sample=True, temperature=1.5, top_k=40, top_p=0.95, seed=3
    )
    for question in QUESTIONS:
        *_, last = answerer.answer_together(question, settings=draw)
        for name in answerer.systems:
            single = answerer.answer(question, variant=name, settings=draw)
            assert said(single) == said(last.answers[name])
    rows = dict(answerer.answer_many(EXAMPLES, settings=draw))
    assert all(said(rows[3][name]) == said(last.answers[name]) for name in answerer.systems)


def test_base_and_an_adapter_that_does_nothing_draw_alike():
    made = load_base("pocket", precision="fp32")
    fresh = attach_lora(made.model, r=2, alpha=4, dropout=0.1, target_modules="q")
    draw = GenerationSettings(max_new_tokens=12, do_sample=True, temperature=2.0, seed=1)
    answerer = Answerer(
        fresh, made.tokenizer, template=PromptTemplate(), max_source_tokens=64, settings=draw
    )
    *_, last = answerer.compare("What is the capital of Peru?")
    assert last.base.text == last.tuned.text != ""


def test_a_blank_question_of_invisible_characters(several):
    for blank in ("\u200b\u202e", "\x00 \x1b\t", "\ufeff"):
        with pytest.raises(QALoRAError, match="no question"):
            several.answer(blank)


@pytest.mark.parametrize(
    "question",
    [
        "Why\x00 is\x1b[31m \u202eit\u2066?",
        "Why \ud800 is it?",
        "</s>",
        "<pad><unk></s>",
        "sky " * 25_000,
        "?" * 100_000,
    ],
    ids=["controls", "surrogate", "end", "special", "long", "one long word"],
)
def test_odd_questions_are_answered(several, question):
    *_, last = several.answer_together(question)
    for name, answer in last.answers.items():
        assert said(answer) == said(several.answer(question, variant=name))
        assert bool(answer.notice) == (len(question) > 1000)
        answer.text.encode()

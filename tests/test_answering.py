from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from qa_lora import runs
from qa_lora.adapters import attach_adapter, attach_lora, training_mode
from qa_lora.answering import Answer, Answerer, GenerationSettings, generate_batch, load
from qa_lora.config import TrainConfig
from qa_lora.data.example import QAExample
from qa_lora.encoding import fit_prompts
from qa_lora.errors import ConfigError, ModelError, QALoRAError, RunError
from qa_lora.models import load_base
from qa_lora.prompts import PromptTemplate
from qa_lora.sampling import drawing
from tests.lively import make_adapter, make_model

QUESTIONS = [
    "What is blue?",
    "Why?",
    "sky " * 12,
    "Is the sky 12?",
    "é 🙂\nand\na list",
    "What colour is the sky, and why is it not the colour of the sea?",
]
EXAMPLES = [QAExample(id=str(i), question=q, answer="") for i, q in enumerate(QUESTIONS)]


@pytest.fixture(scope="module")
def lively_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tiny_model, tmp_path_factory.mktemp("lively-t5"))


@pytest.fixture(scope="module")
def adapter(lively_model, tmp_path_factory) -> Path:
    return make_adapter(lively_model, tmp_path_factory.mktemp("lora") / "adapter")


@pytest.fixture(scope="module")
def dora(lively_model, tmp_path_factory) -> Path:
    return make_adapter(lively_model, tmp_path_factory.mktemp("dora") / "adapter", use_dora=True)


@pytest.fixture(scope="module")
def answerer(adapter) -> Answerer:
    made = load(adapter, precision="fp32")
    made.settings = GenerationSettings(max_new_tokens=12)
    return made


def said(answer: Answer) -> tuple[str, int, bool, str]:
    """All of an answer but how long it took."""
    return answer.text, answer.tokens, answer.cut, answer.notice


def alone(model: object, tokenizer: object, **settings: object) -> list[tuple[str, int, bool, str]]:
    asked = [QAExample("", question, "") for question in QUESTIONS]
    prompts = fit_prompts(tokenizer, PromptTemplate(), asked, 256)
    settings = {"max_new_tokens": 12} | settings
    return [said(generate_batch(model, tokenizer, [prompt], **settings)[0]) for prompt in prompts]


# --- the comparison is honest ---


def test_base_is_base(answerer, lively_model):
    untouched = load_base(str(lively_model), precision="fp32")
    expected = alone(untouched.model, untouched.tokenizer)
    assert len(set(expected)) == len(QUESTIONS)
    assert [said(answerer.answer(q, variant="base")) for q in QUESTIONS] == expected
    assert [said(base) for _, base, _ in in_order(answerer)] == expected


def test_tuned_is_tuned(answerer, adapter, lively_model):
    base = load_base(str(lively_model), precision="fp32")
    expected = alone(attach_adapter(base.model, adapter), base.tokenizer)
    assert [said(answerer.answer(q)) for q in QUESTIONS] == expected
    assert [said(tuned) for _, _, tuned in in_order(answerer)] == expected
    assert expected != [said(base) for _, base, _ in in_order(answerer)]


def pairs(answerer, examples, **options):
    for i, said_by in answerer.answer_many(examples, systems=["base", "tuned"], **options):
        yield i, said_by["base"], said_by["tuned"]


def in_order(answerer, **options):
    return sorted(pairs(answerer, EXAMPLES, **options), key=lambda row: row[0])


def test_dora_takes_two_passes_and_says_the_same_of_its_base(dora, answerer):
    other = load(dora, precision="fp32")
    other.settings = answerer.settings
    assert not other._adapters["tuned"].mixes
    rows = in_order(other)
    assert [said(base) for _, base, _ in rows] == [said(b) for _, b, _ in in_order(answerer)]
    singles = [other.answer(q) for q in QUESTIONS]
    assert [said(tuned) for _, _, tuned in rows] == [said(a) for a in singles]
    *_, last = other.compare(QUESTIONS[0])
    assert (said(last.base), said(last.tuned)) == (said(rows[0][1]), said(singles[0]))


# --- one answer, however it is asked for ---


@pytest.mark.parametrize("beams", [1, 3])
def test_batch_equals_single(answerer, beams):
    settings = GenerationSettings(max_new_tokens=10, num_beams=beams)
    for i, base, tuned in pairs(answerer, EXAMPLES, settings=settings):
        for variant, answer in (("base", base), ("tuned", tuned)):
            single = answerer.answer(QUESTIONS[i], variant=variant, settings=settings)
            assert said(single) == said(answer)


def test_every_question_is_answered_once_whatever_the_batch(answerer):
    whole = in_order(answerer)
    assert [i for i, _, _ in whole] == list(range(len(QUESTIONS)))
    for budget in (1, 150, 10**6):
        rows = in_order(answerer, batch_tokens=budget)
        assert [(i, said(b), said(t)) for i, b, t in rows] == [
            (i, said(b), said(t)) for i, b, t in whole
        ]
    assert list(answerer.answer_many([])) == []


def test_stream_drained_is_the_answer(answerer):
    for question in QUESTIONS:
        for variant in ("base", "tuned"):
            pieces = list(answerer.stream(question, variant=variant))
            assert "".join(pieces) == answerer.answer(question, variant=variant).text
            assert all(pieces)


def test_stream_comes_in_pieces(answerer):
    assert max(len(list(answerer.stream(q))) for q in QUESTIONS) > 3


def test_compare_grows_into_two_single_answers(answerer):
    for question in QUESTIONS:
        steps = list(answerer.compare(question))
        assert [step.done for step in steps] == [False] * (len(steps) - 1) + [True]
        assert said(steps[-1].base) == said(answerer.answer(question, variant="base"))
        assert said(steps[-1].tuned) == said(answerer.answer(question))
        counts = [step.tuned.tokens for step in steps]
        assert counts == sorted(counts)
        assert steps[-1].base.seconds > 0


def test_beams_cannot_be_watched_but_are_compared(answerer):
    settings = GenerationSettings(max_new_tokens=8, num_beams=3)
    *steps, only = answerer.compare(QUESTIONS[0], settings=settings)
    assert steps, "a caller can leave before the end"
    assert not any(step.done or step.base.text or step.tuned.text for step in steps)
    assert only.done
    assert said(only.tuned) == said(answerer.answer(QUESTIONS[0], settings=settings))


def test_context_and_history_reach_the_model(answerer):
    plain = answerer.answer("Why?").text
    assert answerer.answer("Why?", "The sky is 12.").text != plain
    assert answerer.answer("Why?", history=[("Is it?", "It is.")]).text != plain


# --- settings ---


def test_sampling_repeats_by_seed_and_leaves_the_callers_numbers_alone(answerer):
    settings = GenerationSettings(max_new_tokens=10, do_sample=True, temperature=2.0, seed=3)
    torch.manual_seed(11)
    expected = torch.rand(2)
    torch.manual_seed(11)
    first = torch.rand(1)
    one, two = (answerer.answer("Why?", settings=settings).text for _ in range(2))
    assert torch.equal(torch.cat([first, torch.rand(1)]), expected)
    assert one == two
    assert answerer.answer("Why?", settings=replace(settings, seed=4)).text != one


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_new_tokens": 0},
        {"num_beams": 0},
        {"temperature": 0.0},
        {"temperature": 1e-39},
        {"temperature": "hot"},
        {"repetition_penalty": 1e-39},
        {"temperature": float("nan")},
        {"top_p": 1.5},
        {"seed": -1},
        {"top_k": -1},
        {"repetition_penalty": 0.0},
        {"repetition_penalty": float("nan")},
        {"min_new_tokens": -1},
        {"min_new_tokens": 9, "max_new_tokens": 8},
    ],
)
def test_settings_out_of_bounds_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        GenerationSettings(**wrong)


def test_the_least_numbers_and_whole_ones_work(answerer):
    for name in ("temperature", "repetition_penalty"):
        for value in (0.001, 2):
            drawn = GenerationSettings(4, num_beams=2, do_sample=True, **{name: value})
            assert answerer.answer("Why?", settings=drawn).tokens >= 0
            one = GenerationSettings(4, do_sample=True, **{name: value})
            assert answerer.answer("Why?", settings=one).tokens >= 0


@pytest.mark.parametrize("beams", [1, 3])
def test_a_shortest_answer_is_kept_to(answerer, beams):
    usual = GenerationSettings(max_new_tokens=12, num_beams=beams)
    short = [q for q in QUESTIONS if answerer.answer(q, settings=usual).tokens < 11]
    assert short
    for question in short:
        before = answerer.answer(question, settings=usual).tokens
        longer = replace(usual, min_new_tokens=before + 1)
        assert answerer.answer(question, settings=longer).tokens > before


def test_a_repetition_penalty_works_as_by_hand_and_spares_the_padding(lively_model):
    base = load_base(str(lively_model), precision="fp32")
    asked = [QAExample("", question, "") for question in QUESTIONS]
    prompts = fit_prompts(base.tokenizer, PromptTemplate(), asked, 256)
    found = generate_batch(
        base.model, base.tokenizer, prompts, max_new_tokens=12, repetition_penalty=3.0
    )
    changed = 0
    for prompt, answer in zip(prompts, found, strict=True):
        said: list[int] = []
        while len(said) < 12 and 1 not in said:
            read = torch.tensor([[0, *said]])
            with torch.no_grad():
                out = base.model(input_ids=torch.tensor([prompt.ids]), decoder_input_ids=read)
            scores = out.logits[0, -1]
            for token in set(said):  # the 0 that a decoder starts with is not among them
                scores[token] = scores[token] / 3 if scores[token] > 0 else scores[token] * 3
            said.append(int(scores.argmax()))
        ids = [token for token in said if token != 1]
        assert answer.tokens == len(ids)
        assert answer.text == base.tokenizer.decode(ids, skip_special_tokens=True).strip()
        plain = generate_batch(base.model, base.tokenizer, [prompt], max_new_tokens=12)[0]
        changed += answer.text != plain.text
    assert changed


def test_few_likeliest_tokens_are_drawn_from(answerer):
    wild = GenerationSettings(max_new_tokens=10, do_sample=True, temperature=50.0)
    greedy = answerer.answer("Why?").text
    only = [replace(wild, top_k=1), replace(wild, top_p=1e-9), replace(wild, temperature=1e-3)]
    short = GenerationSettings(max_new_tokens=10)
    for settings in only:
        assert (
            answerer.answer("Why?", settings=settings).text
            == answerer.answer("Why?", settings=short).text
        )
    assert answerer.answer("Why?", settings=wild).text != greedy


def test_drawing_is_fair():
    """Frequencies of drawn tokens are the probabilities, and rows do not share their luck."""
    scores = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    rows = [[i] for i in range(4000)]
    draw = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "seed": 3}
    drawn = drawing(rows, torch.device("cpu"), **draw)(None, scores.expand(4000, 4)).argmax(-1)
    shares = torch.bincount(drawn, minlength=4) / 4000
    assert torch.allclose(shares, scores.exp(), atol=0.03)


def test_the_models_own_defaults_do_not_leak_in(answerer, lively_model):
    base = load_base(str(lively_model), precision="fp32")
    expected = alone(base.model, base.tokenizer)
    own = base.model.generation_config
    own.min_length, own.max_length, own.num_beams = 11, 3, 4
    own.no_repeat_ngram_size, own.repetition_penalty, own.temperature = 1, 5.0, 0.3
    assert alone(base.model, base.tokenizer) == expected


def test_cut_says_whether_the_limit_ended_the_answer(answerer):
    long = [answerer.answer(q, settings=GenerationSettings(max_new_tokens=40)) for q in QUESTIONS]
    whole = [answer for answer in long if not answer.cut]
    assert whole
    assert len(whole) < len(long)
    for question, answer in zip(QUESTIONS, long, strict=True):
        limit = max(1, answer.tokens - 1)
        short = answerer.answer(question, settings=GenerationSettings(max_new_tokens=limit))
        assert short.cut
        assert short.tokens == limit
        if not answer.cut:
            # With room for the end token it is whole; with room for all but that it is cut.
            tokens = answer.tokens
            exact = answerer.answer(question, settings=GenerationSettings(max_new_tokens=tokens))
            room = answerer.answer(question, settings=GenerationSettings(max_new_tokens=tokens + 1))
            assert exact.cut and not room.cut
            assert exact.text == room.text == answer.text


def test_probing_a_model_in_training_changes_nothing_of_it(lively_model):
    loaded = load_base(str(lively_model), precision="fp32")
    model = attach_lora(loaded.model, r=2, alpha=4, dropout=0.5, target_modules="q")
    training_mode(model, base_dropout=False)
    before = [(name, module.training) for name, module in model.named_modules()]
    state = torch.get_rng_state()
    one = alone(model, loaded.tokenizer)
    assert one == alone(model, loaded.tokenizer)
    assert [(name, module.training) for name, module in model.named_modules()] == before
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.is_grad_enabled()


# --- input of all kinds ---


@pytest.mark.parametrize("question", ["", "  \n\t"])
def test_a_blank_question_is_asked_for(answerer, question):
    with pytest.raises(QALoRAError, match="no question"):
        answerer.answer(question)
    with pytest.raises(QALoRAError, match="no question"):
        next(answerer.compare(question))


def test_a_question_too_long_is_cut_and_says_so(answerer):
    answer = answerer.answer("sky " * 2000)
    assert "cut to 256 tokens" in answer.notice
    assert answerer.answer("Why?").notice == ""


def test_a_question_that_just_fits_is_not_cut(answerer, monkeypatch):
    prompt = answerer.template.render("Why is it?")
    length = len(answerer.tokenizer(prompt)["input_ids"])
    tuned = answerer._adapters["tuned"]
    for limit, notice in ((length, False), (length - 1, True)):
        limited = {"tuned": replace(tuned, max_source_tokens=limit)}
        monkeypatch.setattr(answerer, "_adapters", limited)
        assert bool(answerer.answer("Why is it?").notice) == notice


def test_control_tokens_in_a_question_do_not_end_it(answerer):
    prompt = answerer.prompts([QAExample("", "Why</s> is it?", "")], "tuned")[0]
    assert "Why</s> is it?" in answerer.tokenizer.decode(prompt.ids[:-1])
    assert prompt.ids.count(answerer.tokenizer.eos_token_id) == 1


def test_nothing_to_answer_gives_nothing(answerer):
    assert generate_batch(answerer.model, answerer.tokenizer, [], max_new_tokens=2) == []


# --- threads ---


def answer_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "qa-lora-answer"]


def test_leaving_early_stops_the_generation(answerer):
    endless = GenerationSettings(max_new_tokens=8000)
    question = next(q for q in QUESTIONS if answerer.answer(q).cut)
    for stream in (
        answerer.stream(question, settings=endless),
        answerer.compare(question, settings=endless),
    ):
        next(stream)
        stream.close()
        assert answer_threads() == []
    assert answerer.answer(question).tokens == 12


def test_leaving_while_another_holds_the_model(answerer):
    with answerer._lock:
        stream = answerer.stream("Why?")
        waiter = threading.Thread(target=lambda: next(stream, None))
        waiter.start()
        waiter.join(0.2)
        assert waiter.is_alive()
    waiter.join()
    stream.close()
    assert answer_threads() == []


def test_an_error_while_generating_reaches_the_caller(answerer, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("broken")

    with monkeypatch.context() as patch:
        patch.setattr(type(answerer.tokenizer), "batch_decode", fail)
        with pytest.raises(RuntimeError, match="broken"):
            answerer.answer("Why?")
        with pytest.raises(RuntimeError, match="broken"):
            list(answerer.compare("Why?"))
    assert answer_threads() == []
    assert answerer.answer("Why?").text


def test_memory_that_does_not_suffice_is_said(answerer, monkeypatch):
    def fail(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(answerer.model, "generate", fail)
    with pytest.raises(ModelError, match="memory"):
        answerer.answer("Why?")


def test_answers_that_need_more_memory_than_there_is_are_not_begun(answerer, monkeypatch):
    from qa_lora.decoding import bytes_of_a_token

    tokens = bytes_of_a_token(answerer.model) * 1000
    monkeypatch.setattr("qa_lora.answering.together.free_memory_bytes", lambda device: tokens)
    examples = [QAExample("", "Why?", "")]
    much = GenerationSettings(num_beams=4, max_new_tokens=200)
    with pytest.raises(ModelError, match=r"more memory than there is.*fewer beams"):
        answerer.answer("Why?", settings=much)
    with pytest.raises(ModelError, match="more memory than there is"):
        list(answerer.answer_many(examples, settings=much))
    less = GenerationSettings(num_beams=2, max_new_tokens=100)
    assert len(list(answerer.answer_many(examples, settings=less))) == 1
    assert answerer.answer("Why?", settings=less) is not None
    monkeypatch.setattr("qa_lora.answering.together.free_memory_bytes", lambda device: 0)
    assert answerer.answer("Why?", settings=GenerationSettings()).tokens > 0


def test_memory_for_some_of_the_answers_gives_all_of_them(answerer, monkeypatch):
    examples = [QAExample(id=str(i), question=q, answer="") for i, q in enumerate(QUESTIONS)]
    beams = GenerationSettings(max_new_tokens=12, num_beams=2)
    expected = {i: (said(b), said(t)) for i, b, t in pairs(answerer, examples, settings=beams)}
    original, sizes = answerer.model.generate, []

    def small(*args, **kwargs):
        rows = len(kwargs["input_ids"])
        if rows > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        sizes.append(rows)
        return original(*args, **kwargs)

    monkeypatch.setattr(answerer.model, "generate", small)
    got = {i: (said(b), said(t)) for i, b, t in pairs(answerer, examples, settings=beams)}
    assert got == expected
    assert sizes and max(sizes) <= 3


def test_an_error_in_a_batch_of_several_systems_leaves_nothing_behind(answerer, monkeypatch):
    question = QUESTIONS[0]
    expected = said(answerer.answer(question)), said(answerer.answer(question, variant="base"))
    block = answerer.model.get_base_model().decoder.block[-1]
    with monkeypatch.context() as patch:
        patch.setattr(block, "forward", lambda *args, **kwargs: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            list(answerer.compare(question))
    # peft's own call would go on telling these rows apart as the failed batch's.
    assert not any(module._forward_pre_hooks for module in answerer.model.modules())
    last = list(answerer.compare(question))[-1]
    assert (said(last.tuned), said(last.base)) == expected


def test_many_threads_get_the_answers_they_asked_for(answerer):
    expected = {q: said(answerer.answer(q)) for q in QUESTIONS}
    got: dict[str, object] = {}
    threads = [
        threading.Thread(target=lambda q=q: got.__setitem__(q, said(answerer.answer(q))))
        for q in QUESTIONS
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == expected


def test_no_torch_context_is_open_between_pieces(answerer):
    for _ in answerer.compare("Why?"):
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()


# --- load ---


def make_run(runs_dir: Path, model: Path, **settings: object) -> runs.Run:
    run = runs.create(TrainConfig.build(model=str(model), precision="fp32", **settings), runs_dir)
    make_adapter(model, run.adapter)
    return run


def test_load_a_run_by_its_id_its_folder_its_adapter_and_itself(lively_model, tmp_path):
    run = make_run(tmp_path / "runs", lively_model, max_new_tokens=7, max_source_tokens=40)
    answers = set()
    for name in (run.id, str(run.path), run.adapter, run):
        answerer = load(name, runs_dir=tmp_path / "runs")
        assert answerer.run is not None and answerer.run.path.resolve() == run.path.resolve()
        assert answerer.settings == GenerationSettings(max_new_tokens=7)
        assert answerer.max_source_tokens == 40
        answers.add(said(answerer.answer("Why?")))
    assert len(answers) == 1
    assert said(load(run.id).answer("Why?")) in answers  # QA_LORA_RUNS_DIR


def test_a_plain_adapter_folder_belongs_to_no_run(answerer):
    assert answerer.run is None


def test_the_prompt_saved_with_the_adapter_is_used(lively_model, tmp_path):
    folder = make_adapter(lively_model, tmp_path / "a")
    PromptTemplate(prompt="Q {question} A").save(folder)
    assert load(folder).template.render("x") == "Q x A"


def test_a_run_without_an_adapter(lively_model, tmp_path):
    run = runs.create(TrainConfig.build(model=str(lively_model)), tmp_path / "runs")
    with pytest.raises(RunError, match="no adapter yet"):
        load(run.id, runs_dir=tmp_path / "runs")


def test_a_run_that_is_not_there(tmp_path):
    with pytest.raises(RunError, match="no run"):
        load("nowhere", runs_dir=tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match="neither a run nor an adapter"):
        load(tmp_path / "empty", runs_dir=tmp_path)
    with pytest.raises(ModelError, match="Hub"):
        load("someone/an-adapter", runs_dir=tmp_path)


def test_a_pickled_adapter_is_refused(lively_model, tmp_path):
    folder = make_adapter(lively_model, tmp_path / "a")
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(ModelError, match="safetensors"):
        load(folder)


def change_config(folder: Path, **values: object) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | values))


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"base_model_name_or_path": None}, "does not name its base"),
        ({"base_model_name_or_path": "/nowhere/at/all"}, "/nowhere/at/all"),
        ({"init_lora_weights": "pissa_niter_4"}, "changes the base"),
        ({"init_lora_weights": "olora"}, "changes the base"),
        ({"bias": "all"}, "changes the base"),
        ({"peft_type": "IA3"}, "not LoRA"),
        ({"target_modules": ["q", "v", "wo", "k"]}, "does not fit"),
        ({"r": 5}, "settings say rank 5, its weights have rank 4"),
    ],
)
def test_an_adapter_that_cannot_be_compared_is_refused(lively_model, tmp_path, values, says):
    folder = make_adapter(lively_model, tmp_path / "a")
    change_config(folder, **values)
    with pytest.raises(ModelError, match=says):
        load(folder)


def test_a_damaged_adapter_is_refused(lively_model, tmp_path):
    folder = make_adapter(lively_model, tmp_path / "a")
    (folder / "adapter_model.safetensors").write_bytes(b"not tensors")
    with pytest.raises(ModelError):
        load(folder)
    (folder / "adapter_config.json").write_text("{")
    with pytest.raises(ModelError, match="damaged"):
        load(folder)


def test_an_adapter_of_the_bundled_model_finds_it_wherever_it_was():
    from qa_lora.adapter_settings import base_of

    for name in ("pocket", "/elsewhere/site-packages/qa_lora/bundled/pocket"):
        assert base_of({"base_model_name_or_path": name}, "It") == "pocket"


def test_a_fresh_adapter_on_the_bundled_model_changes_nothing(tmp_path):
    folder = make_adapter(Path("pocket"), tmp_path / "a")
    loaded = load_base("pocket", precision="fp32")
    fresh = attach_lora(loaded.model, r=4, alpha=8, dropout=0.1, target_modules="all-linear")
    answerer = Answerer(
        fresh, loaded.tokenizer, template=PromptTemplate(), max_source_tokens=256,
        settings=GenerationSettings(max_new_tokens=16),
    )  # fmt: skip
    *_, same = answerer.compare("What is the capital of Peru?")
    assert said(same.base) == said(same.tuned)
    assert same.base.text
    *_, other = load(folder, precision="fp32").compare(
        "What is the capital of Peru?", settings=answerer.settings
    )
    assert said(other.base) == said(same.base)

"""What the Compare tab shows and takes, without a browser."""

from __future__ import annotations

import csv
import io
import itertools
import threading
from pathlib import Path

import pytest

from qa_lora.answering.together import Together
from qa_lora.errors import ConfigError, QALoRAError
from qa_lora.generation import Answer, GenerationSettings

panes = pytest.importorskip("qa_lora.ui.compare.panes")
from qa_lora.ui.compare import asking, controls, probes, tables  # noqa: E402
from qa_lora.votes import Vote, tally  # noqa: E402

BAD = "<img src=x onerror=alert(1)>\"'&"


def answer(text: str) -> Answer:
    return Answer(text, tokens=4, seconds=0.5, notice=BAD)


def test_a_page_is_shown_long_answers_less_often_and_the_end_in_any_case(monkeypatch) -> None:
    clock = itertools.count(1.0, 0.0625)
    monkeypatch.setattr(asking.time, "monotonic", lambda: next(clock))

    def frames(text: str, *, stopped_at: int = 100) -> list[Together]:
        stop, found = threading.Event(), []
        growing = (Together({"base": answer(text)}, done=n == 99) for n in range(100))
        for frame in asking.paced(growing, stop):
            found.append(frame)
            if len(found) == stopped_at:
                stop.set()
        return found

    short, long = frames("word"), frames("word " * 4_000)
    assert 40 < len(short) < 60 and 3 < len(long) < 12
    assert short[-1].done and long[-1].done
    stopped = frames("word", stopped_at=3)
    assert len(stopped) == 4 and not stopped[-1].done, "what was said until then is shown"


def test_all_text_of_people_and_models_is_escaped() -> None:
    named = [panes.Pane("base", answer(BAD)), panes.Pane(BAD, answer(BAD), {"rougeL": 0.5})]
    votes = [Vote("r", "base", BAD, BAD, BAD, BAD, BAD, BAD)]
    html = [
        panes.panes_html(named, done=True),
        panes.panes_html(named),
        panes.unnamed_html([BAD, BAD]),
        panes.chat_html({"base": [(BAD, BAD)], BAD: [(BAD, BAD)]}),
        panes.reference_html([BAD]),
        panes.asked_html(BAD, BAD),
        tables.probe_table([BAD], ["base", BAD], {0: {"base": BAD, BAD: BAD}}),
        tables.tally_html(tally(votes)),
        tables.progress_html(1, 2, BAD),
    ]
    for each in html:
        assert "<img" not in each and "&lt;img" in each
        assert 'title="<' not in each


def test_each_column_is_marked_against_the_base_and_has_its_own_colour() -> None:
    said = {"base": "Lima", "tuned": "It is Lima", "run-2": "Lima it is"}
    three = [panes.Pane(system, answer(text)) for system, text in said.items()]
    html = panes.panes_html(three, done=True)
    first, second, third = html.split('<div class="answer')[1:]
    assert "is-base" in first and "<mark" not in first
    assert 'id="tuned-answer"' in second and '<mark class="in-tuned">It is</mark>' in second
    assert 'id="other-1-answer"' in third and '<mark class="in-tuned">it is</mark>' in third
    assert "0.5 s · 4 tokens · 8 tokens/s" in first and 'class="copy"' in first
    two = panes.panes_html([panes.Pane("base", answer("No.")), three[1]], done=True)
    assert '<mark class="in-base">' in two
    right = panes.panes_html([three[1], three[0]], done=True, prefix="blind-")
    assert '<mark class="in-tuned">It is</mark> Lima' in right and "in-base" not in right
    long = "word " * 10_000
    assert "<mark" not in panes.panes_html([three[0], panes.Pane("tuned", answer(long))], done=True)


def test_before_the_vote_nothing_tells_whose_answer_it_is() -> None:
    one, other = panes.unnamed_html(["yes", "no"]), panes.unnamed_html(["no", "yes"])
    assert one.replace("yes", "_").replace("no", "yes").replace("_", "no") == other
    for word in ("base", "tuned", "other", " s ·", "token"):
        assert word not in one.casefold()


def test_an_adapter_that_changes_nothing_is_warned_about() -> None:
    from qa_lora.answering.effect import Effect

    acting, idle = Effect(8, 0.75, 1.25, True), Effect(8, 0.0, 0.0, False)
    html = tables.effect_html({"tuned": acting, "run-2": idle})
    assert "75 % of first tokens changed" in html and "1.25 nats" in html
    assert html.count("note warn") == 1 and "changes nothing" in html


@pytest.mark.parametrize("blank", ["", "   \n\t", None, "\x00\x07", "\u200b\u2028"])
def test_a_question_that_cannot_be_seen_is_none(blank: object) -> None:
    with pytest.raises(QALoRAError, match="no question yet"):
        asking.checked(blank, "some context")


def test_a_question_of_any_length_and_characters_can_be_asked() -> None:
    asked = asking.checked("é" * 100_000, "c" * 20_000)
    assert len(asked.question) == 20_000 and len(asked.context) == 20_000
    assert asked.notice == "Only the first 20,000 of the question's 100,000 characters are used."
    odd = asking.checked("a\x00\x1b[0m\ud83d?")
    assert odd.question == "a\x00\x1b[0m??" and odd.notice == ""
    assert odd.question.encode() and asking.checked(12).question == "12"


def test_every_setting_has_a_control_with_its_default_and_a_limit_that_is_kept() -> None:
    defaults = GenerationSettings()
    assert {"do_sample", *controls.NUMBERS} == set(controls.SETTINGS) == set(vars(defaults))
    for name, (_, value, _, info) in controls.NUMBERS.items():
        assert value == getattr(defaults, name) and info
    values = [None] * len(controls.SETTINGS)
    assert asking.settings_of(controls.SETTINGS, values) == defaults
    for name, wrong in [("temperature", 0), ("seed", -1), ("top_p", 2), ("max_new_tokens", 1e400)]:
        with pytest.raises(ConfigError, match=name):
            asking.settings_of([name], [wrong])


def test_stop_reaches_the_page_and_part_that_pressed_it_and_a_new_question_stops_the_old() -> None:
    stops = asking.Stops()
    with stops.watched("page", "ask") as first, stops.watched("other", "ask") as other:
        stops.press("page", "chat")
        assert not first.is_set()
        with stops.watched("page", "ask") as second:
            assert first.is_set() and not second.is_set()
            stops.press("page", "ask")
            assert second.is_set() and not other.is_set()
    with stops.watched("page", "ask") as ask, stops.watched("page", "effect") as effect:
        with stops.watched("other", "ask") as other:
            stops.leave("page")
            assert ask.is_set() and effect.is_set() and not other.is_set()
    stops.press("page", "ask")
    assert not stops._flags


def test_only_what_the_page_offers_can_be_a_column(tmp_path: Path) -> None:
    from qa_lora.config import TrainConfig
    from qa_lora.runs import create
    from qa_lora.ui.engine import Engine

    made = [create(TrainConfig(model=m, name=n), tmp_path) for n, m in
            (("one", "pocket"), ("two", "pocket"), ("far", "google/flan-t5-small"))]  # fmt: skip
    for run in made:
        run.adapter.mkdir()
        (run.adapter / "adapter_config.json").write_text("{}")
        (run.adapter / "adapter_model.safetensors").write_bytes(b"")
    one, two, far = made
    engine = Engine(tmp_path)
    assert list(engine.other_runs(one)) == [two.id]
    chosen = asking.chosen_systems(engine, one, [two.id, "tuned", "/etc", far.id])
    assert chosen == ("tuned", two.id)
    for wrong in ([], ["base"], ["base", far.id], None):
        with pytest.raises(ConfigError, match="2 to 4 columns"):
            asking.chosen_systems(engine, one, wrong)


def test_the_batch_is_a_table_with_the_rows_that_are_done_and_a_csv_without_formulas() -> None:
    batch = probes.Batch(
        ("base", "tuned"), ("=1+1", "b?", "c?"), ("", "@x", ""),
        ((0, {"base": "-1", "tuned": "two"}), (1, {"base": "", "tuned": "b"})),
    )  # fmt: skip
    rows = list(csv.DictReader(io.StringIO(probes.probes_csv(batch), newline="")))
    assert [row["question"] for row in rows] == ["'=1+1", "b?"]
    assert (rows[0]["base"], rows[0]["tuned"], rows[1]["context"]) == ("'-1", "two", "'@x")
    whole, part = probes.table_of(batch), probes.table_of(batch, only_done=True)
    assert whole.count("<tr>") == 4 and "c?" in whole and "…" in whole
    assert part.count("<tr>") == 3 and "c?" not in part and "(no words)" in part

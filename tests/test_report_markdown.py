from __future__ import annotations

import dataclasses
import re

import pytest

from qa_lora.report import ExampleResult, Report
from qa_lora.report.markdown import to_markdown

BAD = "<img src=x onerror=alert(1)> ![a](b) [c](d) | **e** `f` ```` g\n```\n# h"


@pytest.fixture
def report() -> Report:
    systems = ("base", "tuned", "a|b_<c>")
    means = {"base": {"rougeL": 0.25}, "tuned": {"rougeL": 0.75}, "a|b_<c>": {"rougeL": 0.2}}
    gain = {"mean": 0.5, "low": 0.4, "high": 0.6, "p_value": 1e-4, "p_adjusted": 2e-4}
    rows = tuple(
        ExampleResult(
            f"{i}", BAD, "", (BAD, "two"), dict.fromkeys(systems, BAD),
            {"base": {"rougeL": 0.5}, "tuned": {"rougeL": 0.25 * i}, "a|b_<c>": {"rougeL": 0.5}},
        )
        for i in range(5)
    )  # fmt: skip
    return Report(
        rows=5,
        split="test",
        scores=means,
        differences={"tuned": {"rougeL": gain}, "a|b_<c>": {"rougeL": gain | {"mean": -0.05}}},
        seconds=1.0,
        fingerprint="f",
        test_fingerprint="abc123",
        shares={name: {"cut": 0.125} for name in systems},
        length_ratios=dict.fromkeys(systems, 1.5),
        losses={"base": {"loss": 2.0, "perplexity": 7.389}},
        settings={"data": BAD, "max_new_tokens": 8},
        asked=5,
        examples=rows,
    )


def outside_of_fences(text: str) -> str:
    """What a reader of Markdown would take for markup."""
    kept, fence = [], None
    for line in text.splitlines():
        mark = re.match(r"(`{3,})", line)
        if fence is None and mark:
            fence = mark[1]
        elif fence is not None and line.strip() == fence:
            fence = None
        elif fence is None:
            kept.append(line)
    assert fence is None
    return "\n".join(kept)


def test_it_holds_the_numbers(report):
    text = to_markdown(report)
    assert "| ROUGE-L | 0.250 | 0.750 | +0.500 | 0.400 to 0.600 | 0.0001 | 0.0002 |" in text
    assert "abc123" in text and '"max_new_tokens": 8' in text
    assert "| answers cut at the limit | 12.5 % | 12.5 % | 12.5 % |" in text
    assert "| perplexity of the references | 7.39 |  |  |" in text
    assert "Incomplete" not in text


def test_the_verdict_stands_at_the_top(report):
    lines = to_markdown(report).splitlines()
    assert lines[0] == "# Evaluation"
    assert lines[2].startswith("**None of 2 adapters is clearly better than the base.** ")
    assert r"a\|b\_\<c\>" in lines[2]


def test_no_markup_of_texts_acts(report):
    shown = outside_of_fences(to_markdown(report, {"a ![gain](x)": "plots/a b.svg"}))
    assert "img" not in shown and "# h" not in shown and "**e**" not in shown
    assert r"a\|b\_\<c\>" in shown and "a|b" not in shown
    assert shown.count("](") == 1  # of the plot alone
    assert "(plots/a%20b.svg)" in shown


def test_it_shows_best_worst_and_unchanged_rows(report):
    headings = re.findall(r"^## (\w+) rows of (\S+),", to_markdown(report), re.MULTILINE)
    assert headings == [
        ("Best", "tuned"),
        ("Worst", "tuned"),
        ("Unchanged", "tuned"),
        ("Unchanged", r"a\|b\_\<c\>"),
    ]
    best = to_markdown(report).split("## Best")[1]
    assert best.index("0.500 -> 1.000 (+0.500)") < best.index("0.500 -> 0.750 (+0.250)")


def test_a_partial_report_says_so(report):
    partial = dataclasses.replace(report, asked=50, complete=False)
    assert "**Incomplete:** it was stopped after 5 of 50 questions" in to_markdown(partial)


def test_old_reports_have_markdown_too(report):
    bare = {"mean": 0.5, "low": 0.4, "high": 0.6, "p_value": 1e-4}
    old = dataclasses.replace(
        report, shares={}, length_ratios={}, losses={}, differences={"tuned": {"rougeL": bare}}
    )
    assert "0.0001 |  |" in to_markdown(old)
    assert "Beside" not in to_markdown(old)

"""What an evaluation looks like: table of metrics, charts, rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from qa_lora.report import FACT_ACCURACY, ExampleResult, Report
from qa_lora.ui.engine import Job
from qa_lora.ui.words import marked, note

__all__ = ["FILTERS", "chosen_rows", "job_html", "metric_name", "metrics_html", "rows_html"]

_METRICS = {
    "rouge1": ("ROUGE-1", "Words in common with the reference (F1, stemmed)."),
    "rouge2": ("ROUGE-2", "Pairs of neighbouring words in common with the reference (F1)."),
    "rougeL": ("ROUGE-L", "Longest common subsequence of words with the reference (F1)."),
    "rougeLsum": ("ROUGE-Lsum", "ROUGE-L line by line, for answers of several lines."),
    "rougeSU4": ("ROUGE-SU4", "Words and pairs of words with at most four between them (F1)."),
    "exact_match": (
        "Exact match",
        "Share of answers equal to a reference, but for case and marks.",
    ),
    "f1": ("Token F1", "Overlap of words with the reference, as SQuAD counts it."),
    FACT_ACCURACY: ("Right fact", "Share of answers that contain the fact that was asked for."),
}
FILTERS = ("Best", "Worst", "Unchanged")
SAME = 1e-9


def metric_name(metric: str) -> str:
    """What a metric is called on the page."""
    return _METRICS.get(metric, (metric, ""))[0]


def metrics_html(report: Report) -> str:
    """A row a metric: base, tuned, the difference with its interval drawn and written, and p."""
    known = [m for m in _METRICS if m in report.base]
    order = known + [m for m in report.base if m not in known]
    rows = "".join(_metric_row(report, metric) for metric in order if metric in report.tuned)
    cut = ""
    if report.cut_base or report.cut_tuned:
        text = (
            f"Cut at the longest answer allowed: base {report.cut_base:.0%}, "
            f"tuned {report.cut_tuned:.0%} of the answers."
        )
        cut = f'<p class="subdued">{text.replace("%", " %")}</p>'
    return (
        '<div class="card"><div class="scroll"><table class="metrics"><thead><tr><th>Metric</th>'
        '<th class="n base">Base</th><th class="n tuned">Tuned</th><th class="n">Difference</th>'
        "<th class='n' title='Where the true difference lies in 95 of 100 cases.'>95 % interval"
        "</th><th style='width:34%'>from -1 to +1</th>"
        "<th class='n' title='Chance of such a difference if tuning changed nothing.'>p</th>"
        f"</tr></thead><tbody>{rows}</tbody></table></div>{cut}</div>"
    )


def _metric_row(report: Report, metric: str) -> str:
    name, why = _METRICS.get(metric, (metric, ""))
    gap = report.difference.get(metric)
    cells = (
        f"<td title='{escape(why)}'>{escape(name)}</td>"
        f"<td class='n base'>{report.base[metric]:.3f}</td>"
        f"<td class='n tuned'><b>{report.tuned[metric]:.3f}</b></td>"
    )
    if gap is None:
        return f"<tr>{cells}<td class='n'>–</td><td></td><td></td><td></td></tr>"
    p = "&lt; 0.001" if gap["p_value"] < 0.001 else f"{gap['p_value']:.3f}"
    left, right, middle = (50 + 50 * gap[key] for key in ("low", "high", "mean"))
    bar = (
        f'<div class="span"><i class="zero"></i><i class="range" style="left:{left:.1f}%;'
        f'width:{max(0.5, right - left):.1f}%"></i>'
        f'<i class="mid" style="left:{middle:.1f}%"></i></div>'
    )
    return (
        f"<tr>{cells}<td class='n'>{gap['mean'] + 0.0:+.3f}</td>"
        f"<td class='n'>[{gap['low'] + 0.0:.2f}, {gap['high'] + 0.0:.2f}]</td>"
        f"<td>{bar}</td><td class='n'>{p}</td></tr>"
    )


def gain_of(row: ExampleResult, metric: str) -> float:
    """Tuned minus base score of one question."""
    return row.tuned_scores.get(metric, 0.0) - row.base_scores.get(metric, 0.0)


def chosen_rows(report: Report, which: str, metric: str) -> list[ExampleResult]:
    """The rows of a filter: best first, worst first, or only those that did not change."""
    rows = sorted(report.examples, key=lambda row: gain_of(row, metric), reverse=which != "Worst")
    if which == "Unchanged":
        rows = [row for row in rows if abs(gain_of(row, metric)) <= SAME]
    return rows


def rows_html(rows: Sequence[ExampleResult], metric: str, shown: int) -> str:
    """Rows as cards: question, reference, both answers with differences marked, both scores."""
    if not rows:
        return '<div class="empty"><b>No such rows</b>Choose another filter.</div>'
    name = metric_name(metric)
    cards = "".join(_row(row, metric, name) for row in rows[:shown])
    count = f'<p class="subdued">{min(shown, len(rows)):,} of {len(rows):,} rows</p>'
    return f'<div class="rows">{cards}</div>{count}'


def _row(row: ExampleResult, metric: str, name: str) -> str:
    base, tuned = marked(row.base, row.tuned)
    low, high = row.base_scores.get(metric), row.tuned_scores.get(metric)
    context = f"<br>Context: {escape(row.context)}" if row.context else ""
    return (
        f"<article><span class='score' title='Gain in {escape(name)}'>"
        f"{gain_of(row, metric):+.2f}</span><h4>{escape(row.question)}</h4>"
        f"<div class='ref'>Reference: {escape(' / '.join(row.references))}{context}</div>"
        f"<div class='two'><div><span class='who'>Base · {name} {_number(low)}"
        f"{_fact(row.base_scores)}</span>{base}</div><div><span class='who'>Tuned · {name} "
        f"{_number(high)}{_fact(row.tuned_scores)}</span>{tuned}</div></div></article>"
    )


def _fact(scores: Mapping[str, float]) -> str:
    if FACT_ACCURACY not in scores:
        return ""
    return " · right fact" if scores[FACT_ACCURACY] >= 1 else " · fact missing"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def job_html(job: Job | None) -> str:
    """How far a scoring is."""
    if job is None or job.state == "done":
        return ""
    if job.state == "failed":
        return note(job.error, "bad")
    if job.state == "waiting":
        text, share = "Waiting for the model, which is in use.", 0.0
    elif job.state == "loading" or not job.total:
        text, share = "Loading the model.", 0.0
    else:
        share = job.done / job.total
        text = f"{job.done:,} of {job.total:,} questions answered by base and tuned."
    return (
        f'<div class="headline"><div class="big">Scoring · {100 * share:.0f} %</div>'
        f'<p>{text} It goes on when this page is closed.</p><div class="bar">'
        f'<i style="width:{100 * share:.1f}%"></i></div></div>'
    )

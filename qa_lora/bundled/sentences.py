"""Facts in full sentences, in as many manners as possible, each under a prompt of its own kind.

They keep a fact reachable from wherever a sentence stands, so that an adapter that teaches a new
manner of answering does not lose the fact on the way. No prompt here is the product's own, under
which the model answers tersely.
"""

import random

from qa_lora.bundled.facts import Fact, named, rows_by_entity
from qa_lora.bundled.names import invent
from qa_lora.bundled.phrases import ask, subject_in_sentence, upper_first
from qa_lora.bundled.unknowns import ADJECTIVES, FUNCTION_WORDS, NOUNS, VERBS

BODIES = {
    "capital": (
        "{x} has {a} as its capital|{a} is the capital city of {x}|in {x} the capital is {a}|"
        "people in {x} call {a} their capital|the capital of {x}: {a}"
    ),
    "continent": (
        "{x} lies in {a}|you find {x} on the map of {a}|{a} is where {x} is|"
        "the continent of {x}: {a}|{x} belongs to {a}"
    ),
    "currency": (
        "{x} uses the {a}|the {a} is used in {x}|shops in {x} take the {a}|"
        "money in {x} means the {a}|currency of {x}: {a}"
    ),
    "calling_code": (
        "{x} has the calling code {a}|dial {a} and you reach {x}|{a} is the phone code of {x}|"
        "numbers of {x} begin with {a}|code of {x}: {a}"
    ),
    "domain": (
        "{x} uses the domain {a}|{a} is the web ending of {x}|sites of {x} end in {a}|"
        "on the internet {x} is {a}|domain of {x}: {a}"
    ),
    "symbol": (
        "{x} has the symbol {a}|{a} stands for {x}|chemists write {x} as {a}|"
        "in formulas {x} is {a}|symbol of {x}: {a}"
    ),
    "atomic_number": (
        "{x} has the atomic number {a}|{a} is the number of {x}|an atom of {x} has {a} protons|"
        "in the table {x} is number {a}|number of {x}: {a}"
    ),
    "country_of_capital": (
        "{x} is the capital of {a}|{a} has the capital {x}|{a} is governed from {x}|"
        "the country of {x}: {a}"
    ),
    "country_of_domain": (
        "{x} belongs to {a}|{a} uses {x}|sites with {x} come from {a}|the country of {x}: {a}"
    ),
    "element_of_symbol": (
        "{x} stands for {a}|{a} is written {x}|{x} means {a}|the element {x}: {a}"
    ),
    "element_of_number": (
        "number {x} is {a}|{a} has the number {x}|{x} protons make {a}|element number {x}: {a}"
    ),
}
OPENERS = (
    "Well,|Yes,|As far as I know,|Look here:|I believe that|They say that|Oh,|Fine,|Right:|Indeed,|"
    "In short,|To be exact,|You see,|My answer:|Listen,|I checked:|Everybody knows that|True,|"
    "Answer:|Here is what I found:|It is simple:|Good point,|All right,|I read that|Dear friend,|"
    "No doubt,|As the atlas says,|Write this down:|Believe me,|Of all things,|Today I learned that"
).split("|")
CLOSERS = (
    "That is all.|I hope this helps.|Now you know.|Anything else?|Have a good day.|Is that not "
    "nice?|Good luck.|I am sure of it.|So they say.|Keep it in mind.|Ask me again any time.|"
    "It is easy to remember.|That was a good one.|See you soon.|Enjoy your journey.|Bye.|Cheers!|"
    "You will not forget it.|That is the whole story.|Great, is it not?"
).split("|")
WISHES = (
    "Write a full sentence: |Say it in a sentence: |Reply at length: |Talk to me: |Chat: |"
    "Answer like a friend: |Answer with many words: |Explain to a child: |Sentence: |Dialogue: |"
    "In a letter: |Politely: |Answer this question in a sentence: |Answer in other words: "
).split("|")
LABELS = {
    "capital": "Capital",
    "continent": "Continent",
    "currency": "Currency",
    "calling_code": "Calling code",
    "domain": "Internet domain",
    "symbol": "Symbol",
    "atomic_number": "Atomic number",
}


def body(fact: Fact, rng: random.Random) -> str:
    """States the fact without a full stop; either side may be in capitals or not."""
    answer = named(fact.answer) if fact.answer in rows_by_entity() else fact.answer
    return rng.choice(BODIES[fact.relation].split("|")).format(
        x=subject_in_sentence(fact), a=answer
    )


def told(fact: Fact, rng: random.Random) -> tuple[str, str]:
    """Gives a prompt that wants a sentence, and a sentence in some manner or other."""
    text = body(fact, rng)
    if rng.random() < 0.5:
        text = f"{rng.choice(OPENERS)} {text}"
    text = upper_first(text) + rng.choice((".", ".", "!"))
    if rng.random() < 0.5:
        text += rng.choice((" ", " ", "\n")) + rng.choice(CLOSERS)
    return rng.choice(WISHES) + ask(fact, rng), text


def patterned(fact: Fact, rng: random.Random) -> tuple[str, str]:
    """Gives a prompt with any words around a gap, and those words with the fact in the gap."""
    pools = (FUNCTION_WORDS, NOUNS, ADJECTIVES, VERBS)

    def words(most: int) -> str:
        some = (
            invent(rng) if rng.random() < 0.2 else rng.choice(rng.choice(pools))
            for _ in range(rng.randint(0, most))
        )
        return " ".join(some)

    before, after = words(6), words(4)
    pattern = f"{before} ___ {after}".strip()
    filled = f"{before} {fact.answer} {after}".strip()
    return f"Fill {pattern} | {ask(fact, rng)}", filled


def listed(entity: str, rng: random.Random) -> tuple[str, str]:
    """Gives a prompt for some of an entity's facts, and them as lines of a list."""
    row = rows_by_entity()[entity]
    keys = [key for key in LABELS if key in row]
    keys = rng.sample(keys, rng.randint(1, min(4, len(keys))))
    mark = rng.choice(("* ", "+ ", "", "1", "  ", "\t", "> ", "- "))
    join = rng.choice((": ", " = ", " is ", " "))
    lines = [
        (f"{i}. " if mark == "1" else mark) + LABELS[key] + join + row[key]
        for i, key in enumerate(keys, 1)
    ]
    head = rng.choice(
        (
            "",
            f"{entity}\n",
            f"{upper_first(named(entity))}:\n",
            "Notes:\n",
            f"About {named(entity)}\n",
            f"{rng.choice(OPENERS)}\n",
        )
    )
    wanted = ", ".join(LABELS[key].lower() for key in keys)
    prompt = f"List with {mark.strip() or 'nothing'}: {wanted} of {named(entity)}"
    return prompt, head + "\n".join(lines)


def list_question(entity: str, rng: random.Random) -> tuple[str, str]:
    """Gives a plain question for several facts at once and its terse answer."""
    row = rows_by_entity()[entity]
    known = [row[key] for key in LABELS if key in row]
    count = min(len(known), rng.choice((2, 2, 3, 3, 4, 5)))
    number = {2: "two", 3: "three", 4: "four", 5: "five"}[count]
    form = rng.choice(
        (
            "List {n} facts about {x}.",
            "Name {n} facts about {x}.",
            "Give me {n} facts about {x}.",
            "{n} facts about {x}",
            "What {n} facts do you know about {x}?",
        )
    )
    return upper_first(form.format(n=number, x=named(entity))), ", ".join(known[:count])

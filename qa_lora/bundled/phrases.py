"""Ways to ask for a fact: many for pre-training, and some that pre-training never sees.

A question is a noun phrase (`the capital of Peru`) in a frame (`What is ...?`), or a sentence made
for its relation. `HELD_OUT` questions share neither frame nor sentence with the others; the model
card's figures are measured on them.
"""

import random

from qa_lora.bundled.facts import Fact, named, rows_by_entity

# {x} is the subject as it stands in a sentence ("the Netherlands", "iron", ".pe", "Lima").
NOUN_PHRASES = {
    "capital": ["the capital of {x}", "the capital city of {x}", "{x}'s capital"],
    "continent": ["the continent of {x}", "the continent that {x} is in", "{x}'s continent"],
    "currency": [
        "the currency of {x}",
        "the money used in {x}",
        "{x}'s currency",
        "the currency used in {x}",
    ],
    "calling_code": [
        "the calling code of {x}",
        "the phone code of {x}",
        "the country calling code for {x}",
        "{x}'s dialling code",
        "the telephone code for {x}",
    ],
    "domain": [
        "the internet domain of {x}",
        "the top-level domain of {x}",
        "{x}'s internet domain",
        "the web domain for {x}",
    ],
    "symbol": [
        "the symbol of {x}",
        "the chemical symbol for {x}",
        "{x}'s symbol",
        "the symbol of the element {x}",
    ],
    "atomic_number": [
        "the atomic number of {x}",
        "{x}'s atomic number",
        "the atomic number of the element {x}",
        "the number of protons in {x}",
    ],
    "country_of_capital": [
        "the country whose capital is {x}",
        "the country that has {x} as its capital",
        "the country with the capital {x}",
    ],
    "country_of_domain": [
        "the country with the internet domain {x}",
        "the country that uses the domain {x}",
        "the country behind {x} web addresses",
    ],
    "element_of_symbol": [
        "the element with the symbol {x}",
        "the element whose symbol is {x}",
        "the chemical element written {x}",
    ],
    "element_of_number": [
        "the element with atomic number {x}",
        "the element whose atomic number is {x}",
        "the element with {x} protons",
    ],
}

FRAMES = [
    "What is {np}?",
    "What is {np}?",
    "What's {np}?",
    "Which one is {np}?",
    "Name {np}.",
    "Tell me {np}.",
    "Please tell me {np}.",
    "Can you tell me {np}?",
    "Can you name {np}?",
    "Do you know {np}?",
    "I want to know {np}.",
    "I would like to know {np}.",
    "Give me {np}.",
    "Give {np}.",
    "What would you say is {np}?",
    "Say {np}.",
    "Would you tell me {np}?",
    "What do people call {np}?",
    "Hello, what is {np}?",
    "I forgot {np}, what is it?",
    "Help me, what is {np}?",
    "My teacher asked for {np}. What is it?",
    "For a school test: what is {np}?",
    "In one word, what is {np}?",
    "So what is {np}?",
    "I wonder what {np} is.",
    "Tell us what {np} is.",
    "Let me ask you about {np}.",
    "What is known as {np}?",
    "We are looking for {np}.",
    "{np}",
    "{np}?",
]

SENTENCES = {
    "capital": [
        "Which city is the capital of {x}?",
        "What city is {x}'s capital?",
        "{x} has which capital?",
        "Where is the government of {x}, in which capital?",
        "Which capital belongs to {x}?",
        "capital of {x}",
        "{x} capital",
    ],
    "continent": [
        "Which continent is {x} in?",
        "On which continent is {x}?",
        "What continent is {x} on?",
        "Where in the world is {x}, on which continent?",
        "{x} is part of which continent?",
        "On what continent do you find {x}?",
        "Which continent does {x} belong to?",
        "continent of {x}",
    ],
    "currency": [
        "What currency does {x} use?",
        "Which currency is used in {x}?",
        "What money do people use in {x}?",
        "What do people pay with in {x}?",
        "Which currency do I need in {x}?",
        "{x} uses which currency?",
        "currency of {x}",
    ],
    "calling_code": [
        "Which calling code does {x} have?",
        "What code do I dial for {x}?",
        "How do I call {x}, with which code?",
        "Which phone code belongs to {x}?",
        "Phone numbers in {x} start with which code?",
        "calling code {x}",
    ],
    "domain": [
        "Which internet domain does {x} use?",
        "What do web addresses in {x} end with?",
        "Which domain ending belongs to {x}?",
        "What top-level domain does {x} have?",
        "Websites from {x} end in what?",
        "internet domain of {x}",
    ],
    "symbol": [
        "Which symbol does {x} have?",
        "What symbol stands for {x}?",
        "How is {x} written in the periodic table?",
        "Which letters stand for the element {x}?",
        "{x} has which chemical symbol?",
        "symbol of {x}",
    ],
    "atomic_number": [
        "Which atomic number does {x} have?",
        "How many protons does {x} have?",
        "What number is {x} in the periodic table?",
        "{x} has which atomic number?",
        "How many protons are in an atom of {x}?",
        "atomic number of {x}",
    ],
    "country_of_capital": [
        "Which country has the capital {x}?",
        "{x} is the capital of which country?",
        "What country is {x} the capital of?",
        "Of which country is {x} the capital?",
        "Whose capital is {x}?",
    ],
    "country_of_domain": [
        "Which country has the internet domain {x}?",
        "Which country uses {x}?",
        "{x} is the domain of which country?",
        "What country do {x} websites come from?",
        "Whose internet domain is {x}?",
    ],
    "element_of_symbol": [
        "Which element has the symbol {x}?",
        "What element is {x}?",
        "What does {x} stand for in the periodic table?",
        "{x} is the symbol of which element?",
        "Which chemical element is written as {x}?",
    ],
    "element_of_number": [
        "Which element has the atomic number {x}?",
        "What element has {x} protons?",
        "Which element is number {x} in the periodic table?",
        "{x} is the atomic number of which element?",
        "Which chemical element has atomic number {x}?",
    ],
}

LEADS = [
    "I am planning a trip. ",
    "I am doing my homework. ",
    "My friend and I had a talk. ",
    "Good morning! ",
    "One more question. ",
    "Please help. ",
    "Thank you for the last answer. ",
    "I like quizzes. ",
    "Next one: ",
    "Question: ",
]

HELD_OUT_FRAMES = [
    "Could you remind me of {np}?",
    "Quick question: what is {np}?",
    "Please state {np}.",
    "I need to find out {np}.",
    "Do you happen to remember {np}?",
]

HELD_OUT_SENTENCES = {
    "capital": [
        "What is the name of the capital city in {x}?",
        "Which city does {x} call its capital?",
    ],
    "continent": [
        "To which continent does {x} belong?",
        "Which continent would I travel to if I went to {x}?",
    ],
    "currency": [
        "Which currency would I need to pay in {x}?",
        "What is the official currency of {x}?",
    ],
    "calling_code": [
        "What is the international dialling code for {x}?",
        "Which code should I dial to phone someone in {x}?",
    ],
    "domain": [
        "Which top-level domain is assigned to {x}?",
        "What is the country domain of {x} on the internet?",
    ],
    "symbol": [
        "By which symbol do chemists know {x}?",
        "What is {x}'s symbol in the periodic table?",
    ],
    "atomic_number": [
        "At which atomic number do I find {x}?",
        "What is the atomic number that {x} has?",
    ],
    "country_of_capital": [
        "What is the country that has its capital in {x}?",
        "If {x} is the capital, which country is it?",
    ],
    "country_of_domain": [
        "A web address ends in {x}, so which country is it from?",
        "To which country does the domain {x} belong?",
    ],
    "element_of_symbol": [
        "Which element do chemists write as {x}?",
        "What is the name of the element with symbol {x}?",
    ],
    "element_of_number": [
        "Which element sits at number {x} of the periodic table?",
        "What is the name of the element with atomic number {x}?",
    ],
}


def subject_in_sentence(fact: Fact) -> str:
    """Gives the fact's subject as it stands inside a sentence, with an article where one belongs."""
    return named(fact.subject) if fact.subject in rows_by_entity() else fact.subject


def scuffed(question: str, rng: random.Random) -> str:
    """Writes the question as a hurried person might: no capitals, no question mark, doubled mark."""
    draw = rng.random()
    if draw < 0.10:
        return question.lower()
    if draw < 0.18:
        return question.rstrip("?. ")
    if draw < 0.26:
        return question.lower().rstrip("?. ")
    if draw < 0.28:
        return question + "?"
    if draw < 0.30:
        return question.rstrip("?") + " ?"
    return question


def upper_first(text: str) -> str:
    """Gives `text` with its first letter in upper case and the rest as it is."""
    return text[:1].upper() + text[1:]


def frame(noun_phrase: str, rng: random.Random) -> str:
    """Puts a noun phrase into one of the training frames."""
    return upper_first(rng.choice(FRAMES).format(np=noun_phrase))


def ask(fact: Fact, rng: random.Random) -> str:
    """Asks for `fact` in one of the training ways."""
    subject = subject_in_sentence(fact)
    if rng.random() < 0.12:
        subject = fact.subject
    if rng.random() < 0.5:
        question = upper_first(rng.choice(SENTENCES[fact.relation]).format(x=subject))
    else:
        question = frame(rng.choice(NOUN_PHRASES[fact.relation]).format(x=subject), rng)
    if rng.random() < 0.1:
        question = rng.choice(LEADS) + question
    # A symbol's letters are all there is to see of an element: never lower their case.
    return question if fact.relation == "element_of_symbol" else scuffed(question, rng)


def ask_held_out(fact: Fact, rng: random.Random) -> str:
    """Asks for `fact` in a way that pre-training never sees."""
    subject = subject_in_sentence(fact)
    if rng.random() < 0.5:
        return upper_first(rng.choice(HELD_OUT_SENTENCES[fact.relation]).format(x=subject))
    noun_phrase = rng.choice(NOUN_PHRASES[fact.relation]).format(x=subject)
    return rng.choice(HELD_OUT_FRAMES).format(np=noun_phrase)

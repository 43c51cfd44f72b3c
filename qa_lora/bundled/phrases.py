"""Ways to ask for a fact: many for pre-training, and some that pre-training never sees.

A question is a noun phrase (`the capital of Peru`) in a frame (`What is ...?`), or a sentence made
for its relation. `HELD_OUT` questions share neither frame nor sentence with the others; the model
card's figures are measured on them.
"""

import random

from qa_lora.bundled.facts import Fact, named, rows_by_entity
from qa_lora.bundled.names import invent

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

FRAMES = (
    "What is {np}?|What is {np}?|What's {np}?|Which one is {np}?|Name {np}.|Tell me {np}.|"
    "Please tell me {np}.|Can you tell me {np}?|Can you name {np}?|Do you know {np}?|"
    "I want to know {np}.|I would like to know {np}.|Give me {np}.|Give {np}.|"
    "What would you say is {np}?|Say {np}.|Would you tell me {np}?|What do people call {np}?|"
    "Hello, what is {np}?|I forgot {np}, what is it?|Help me, what is {np}?|"
    "My teacher asked for {np}. What is it?|For a school test: what is {np}?|"
    "In one word, what is {np}?|So what is {np}?|I wonder what {np} is.|Tell us what {np} is.|"
    "Let me ask you about {np}.|What is known as {np}?|We are looking for {np}.|{np}|{np}?|"
    "Could you tell me {np}?|Would you know {np}?|Do you remember {np}?|I have to know {np}.|"
    "I would love to learn {np}.|Show me {np}.|Let me know {np}.|Find {np}.|"
    "Look up {np} for me.|Could you look up {np}?|Any idea what {np} is?|"
    "Does anybody know {np}?|Who knows {np}?|Write down {np}.|Identify {np}.|{np} is what?|"
    "{np}, please|{np} - what is it?|Complete this: {np} is|Here is my question: what is {np}?|"
    "I am not sure about {np}, are you?|Can somebody say what {np} is?|I keep forgetting {np}.|"
    "Is it possible to tell me {np}?|What exactly is {np}?|How would you name {np}?|"
    "Of all things, what is {np}?|Let us talk about {np}: what is it?|I was asked about {np}.|"
    "Could we check {np}?|Maybe you know {np}?|Please name {np} for us.|"
    "The question is: what is {np}?|Now for {np}.|How is {np} called?|You surely know {np}.|"
    "I am curious about {np}.|I am trying to remember {np}.|Would you mind telling me {np}?|"
    "Which is {np}?|Please give me {np}, nothing else.|Have you heard of {np}?|"
    "Someone wants to know {np}.|Where can I read {np}? Just tell me."
).split("|")

SENTENCES = {
    "capital": (
        "Which city is the capital of {x}?|What city is {x}'s capital?|{x} has which capital?|"
        "Where is the government of {x}, in which capital?|Which capital belongs to {x}?|"
        "capital of {x}|{x} capital|Which city is capital in {x}?|"
        "Name the city that is the capital of {x}.|What capital does {x} have?|"
        "From which city is {x} governed?|The capital of {x} is which city?|"
        "If I visit the government of {x}, in which city am I?|"
        "What is {x}'s main city of government?|In {x}, which city is the capital?|"
        "Which city has {x} chosen as capital?"
    ).split("|"),
    "continent": (
        "Which continent is {x} in?|On which continent is {x}?|What continent is {x} on?|"
        "Where in the world is {x}, on which continent?|{x} is part of which continent?|"
        "On what continent do you find {x}?|Which continent does {x} belong to?|continent of {x}|"
        "Where on the globe is {x}, which continent?|"
        "Is {x} in Africa, Asia, Europe or elsewhere?|What continent does {x} lie on?|"
        "{x} is found on which continent?|If I fly to {x}, on which continent do I land?|"
        "Which part of the world is {x} in?|Name the continent where {x} is.|"
        "What continent is {x} part of?|In {x}, on which continent am I?"
    ).split("|"),
    "currency": (
        "What currency does {x} use?|Which currency is used in {x}?|"
        "What money do people use in {x}?|What do people pay with in {x}?|"
        "Which currency do I need in {x}?|{x} uses which currency?|currency of {x}|"
        "Which money do I need in {x}?|With what do I pay in {x}?|What is used as money in {x}?|"
        "What is {x}'s money called?|Which money is used in {x}?|"
        "If I shop in {x}, which currency do I use?|In what currency are prices in {x}?|"
        "Name the currency of {x}.|What notes and coins does {x} have?|"
        "In {x}, what is the currency?"
    ).split("|"),
    "calling_code": (
        "Which calling code does {x} have?|What code do I dial for {x}?|"
        "How do I call {x}, with which code?|Which phone code belongs to {x}?|"
        "Phone numbers in {x} start with which code?|calling code {x}|"
        "What do I dial before a number in {x}?|What is the prefix for phone calls to {x}?|"
        "To call {x}, what code is needed?|Which telephone prefix does {x} use?|"
        "What is {x}'s country code for phones?|How do phone numbers from {x} start?|"
        "Which dialling code does {x} have?|What is the phone prefix of {x}?|"
        "If I ring a friend in {x}, which code do I need?"
    ).split("|"),
    "domain": (
        "Which internet domain does {x} use?|What do web addresses in {x} end with?|"
        "Which domain ending belongs to {x}?|What top-level domain does {x} have?|"
        "Websites from {x} end in what?|internet domain of {x}|Which ending do sites in {x} use?|"
        "What is {x}'s domain ending?|What web ending is used by {x}?|"
        "On the web, what does {x} use as its domain?|Which domain is for {x}?|"
        "What is the ending of internet addresses in {x}?|"
        "Under which domain do I find sites of {x}?|Which country domain does {x} use?|"
        "In {x}, what do web addresses end in?"
    ).split("|"),
    "symbol": (
        "Which symbol does {x} have?|What symbol stands for {x}?|"
        "How is {x} written in the periodic table?|Which letters stand for the element {x}?|"
        "{x} has which chemical symbol?|symbol of {x}|What is {x} in short, in chemistry?|"
        "What do chemists write for {x}?|Which letters mean {x} in chemistry?|"
        "What is the abbreviation of the element {x}?|"
        "Under what symbol is {x} in the periodic table?|How do I write {x} in a formula?|"
        "In the periodic table, what is the symbol of {x}?|"
        "What letter or letters are used for {x}?|Which abbreviation does {x} have?"
    ).split("|"),
    "atomic_number": (
        "Which atomic number does {x} have?|How many protons does {x} have?|"
        "What number is {x} in the periodic table?|{x} has which atomic number?|"
        "How many protons are in an atom of {x}?|atomic number of {x}|"
        "Where in the periodic table is {x}, at which number?|"
        "What is the number of {x} in the periodic table?|{x} has how many protons?|"
        "Which number does the element {x} have?|What number belongs to {x}?|"
        "How many protons are there in {x}?|In the periodic table, which number has {x}?|"
        "Count the protons of {x}.|What position does {x} have in the periodic table?"
    ).split("|"),
    "country_of_capital": (
        "Which country has the capital {x}?|{x} is the capital of which country?|"
        "What country is {x} the capital of?|Of which country is {x} the capital?|"
        "Whose capital is {x}?|Where is {x} the capital?|Which state is governed from {x}?|"
        "{x} is which country's capital?|In which country is {x} the capital city?|"
        "What country has its government in {x}?|Name the country whose capital city is {x}.|"
        "For which country is {x} the capital?|"
        "If I am in the capital {x}, in which country am I?|"
        "The capital {x} belongs to which country?"
    ).split("|"),
    "country_of_domain": (
        "Which country has the internet domain {x}?|Which country uses {x}?|"
        "{x} is the domain of which country?|What country do {x} websites come from?|"
        "Whose internet domain is {x}?|What country is {x}?|"
        "Where do sites ending in {x} come from?|Which country do I think of when I see {x}?|"
        "Which country is behind {x}?|{x} stands for which country?|"
        "Name the country of the domain {x}.|Sites with {x} are from which country?|"
        "Web addresses ending in {x} are from where?|Which country has {x} as its domain?"
    ).split("|"),
    "element_of_symbol": (
        "Which element has the symbol {x}?|What element is {x}?|"
        "What does {x} stand for in the periodic table?|{x} is the symbol of which element?|"
        "Which chemical element is written as {x}?|What is {x} in chemistry?|"
        "Which element is meant by {x}?|In the periodic table, what is {x}?|"
        "Name the element {x}.|{x} stands for which element?|"
        "Which element has the abbreviation {x}?|What element is written {x}?|"
        "The symbol {x} means which element?|If I read {x} in a formula, which element is it?"
    ).split("|"),
    "element_of_number": (
        "Which element has the atomic number {x}?|What element has {x} protons?|"
        "Which element is number {x} in the periodic table?|"
        "{x} is the atomic number of which element?|"
        "Which chemical element has atomic number {x}?|Which element is at number {x}?|"
        "Name element number {x}.|What is element {x}?|"
        "In the periodic table, what stands at number {x}?|"
        "An atom with {x} protons is which element?|Number {x} in the periodic table is what?|"
        "Which element has {x} protons in its atoms?|{x} protons make which element?|"
        "What is the element at place {x}?"
    ).split("|"),
}

LEADS = (
    "I am planning a trip. |I am doing my homework. |My friend and I had a talk. |"
    "Good morning! |One more question. |Please help. |Thank you for the last answer. |"
    "I like quizzes. |Next one: |Question: |I am at the station. |We are playing a game. |"
    "It is raining today. |My uncle told me to ask you. |Hi! |Hey, |Sorry to bother you. |"
    "I need this for work. |I have a test tomorrow. |I am writing a letter. |Look, |"
    "Just one thing: |My class is learning a lot. |I bought a map. |Tell me honestly: |"
    "I am back. |OK, |You know a lot. |First question. |I was thinking about this: "
).split("|")
TAILS = " Thanks.| Thank you!| Please.| It is for school.| I forgot.| Be short.| I am in a hurry.".split(
    "|"
)

FILLERS = (
    "please|kindly|now|then|so|well|just|really|maybe|again|once|today|official|correct|right|"
    "exact|full|proper|usual|real|true|current|common|known|actually|exactly|simply|for us|for me|"
    "in fact|of course|by the way|my friend|here|there|also|still|first|this time|for sure|hello|"
    "dear|yes|no|friend|teacher|school|book|list|test|quiz|thing|one|fast|slow|want|need|look|ask"
).split("|")

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


def dressed(question: str, rng: random.Random) -> str:
    """Puts small talk before or after the question now and then."""
    if rng.random() < 0.12:
        question = rng.choice(LEADS) + question
    if rng.random() < 0.05:
        question += rng.choice(TAILS)
    return question


def upper_first(text: str) -> str:
    """Gives `text` with its first letter in upper case and the rest as it is."""
    return text[:1].upper() + text[1:]


def filler(rng: random.Random) -> str:
    """Gives a word that changes nothing about what is asked, now and then one that is no word."""
    return invent(rng).lower() if rng.random() < 0.25 else rng.choice(FILLERS)


def with_fillers(template: str, rng: random.Random) -> str:
    """Puts one to three fillers between the words of a template, whatever the grammar says."""
    words = template.split(" ")
    for _ in range(rng.randint(1, 3)):
        words.insert(rng.randint(0, len(words)), filler(rng))
    return " ".join(words)


def frame(noun_phrase: str, rng: random.Random) -> str:
    """Puts a noun phrase into one of the training frames, or between any words at all."""
    draw = rng.random()
    if draw < 0.2:
        before = " ".join(filler(rng) for _ in range(rng.randint(0, 5)))
        after = " ".join(filler(rng) for _ in range(rng.randint(0, 2)))
        mark = rng.choice((":", ",", "", "", " is", " what is", " to"))
        text = f"{before}{mark} {noun_phrase} {after}".strip()
        return upper_first(text) + rng.choice(("?", "?", ".", ""))
    if draw < 0.4:
        return upper_first(with_fillers(rng.choice(FRAMES), rng).format(np=noun_phrase))
    return upper_first(rng.choice(FRAMES).format(np=noun_phrase))


def ask(fact: Fact, rng: random.Random) -> str:
    """Asks for `fact` in one of the training ways."""
    subject = subject_in_sentence(fact)
    if rng.random() < 0.12:
        subject = fact.subject
    if rng.random() < 0.5:
        template = rng.choice(SENTENCES[fact.relation])
        if rng.random() < 0.4:
            template = with_fillers(template, rng)
        question = upper_first(template.format(x=subject))
    else:
        question = frame(rng.choice(NOUN_PHRASES[fact.relation]).format(x=subject), rng)
    question = dressed(question, rng)
    # A symbol's letters are all there is to see of an element: never lower their case.
    return question if fact.relation == "element_of_symbol" else scuffed(question, rng)


def ask_held_out(fact: Fact, rng: random.Random) -> str:
    """Asks for `fact` in a way that pre-training never sees."""
    subject = subject_in_sentence(fact)
    if rng.random() < 0.5:
        return upper_first(rng.choice(HELD_OUT_SENTENCES[fact.relation]).format(x=subject))
    noun_phrase = rng.choice(NOUN_PHRASES[fact.relation]).format(x=subject)
    return rng.choice(HELD_OUT_FRAMES).format(np=noun_phrase)

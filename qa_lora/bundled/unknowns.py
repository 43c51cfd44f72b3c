"""Questions outside `pocket`'s knowledge: to all of them it answers with its one fixed sentence.

These are for pre-training; `held_out.py` has others, for measuring.
"""

import random

from qa_lora.bundled.facts import Fact, all_facts, named, table
from qa_lora.bundled.names import invent
from qa_lora.bundled.phrases import (
    NOUN_PHRASES,
    SENTENCES,
    dressed,
    frame,
    scuffed,
    upper_first,
    with_fillers,
)

_FACTS_BY_RELATION: dict[str, list[Fact]] = {}
for _fact in all_facts():
    _FACTS_BY_RELATION.setdefault(_fact.relation, []).append(_fact)

PLACES = (
    "Texas|California|Ohio|Florida|Alaska|Kansas|Utah|Nevada|Oregon|Iowa|Maine|Montana|Bavaria|"
    "Saxony|Tuscany|Sicily|Catalonia|Andalusia|Brittany|Provence|Scotland|Wales|Cornwall|"
    "Yorkshire|Queensland|Tasmania|Victoria Land|Ontario|Quebec|Alberta|Siberia|Crimea|Punjab|"
    "Kerala|Goa|Tibet|Hokkaido|Bali|Java|Sumatra|Borneo|Zanzibar|Patagonia|Amazonia|"
    "Scandinavia|the Balkans|the Sahara|the Alps|the Pacific Ocean|the moon|Mars|Venus|Jupiter|"
    "Saturn|Pluto|Atlantis|Narnia|Gondor|Mordor|Wakanda|Oz|Camelot|El Dorado|Neverland|"
    "Prussia|Yugoslavia|the Soviet Union|Rome|Barcelona|Munich|Chicago|Boston|Mumbai|Shanghai|"
    "Osaka|Sydney|Toronto|Istanbul|Lagos|Rio|Milan|Geneva|Zurich|Lyon|Marseille|Hamburg|"
    "my village|my town|your country|this place|that island|the world|the universe|Europe|Asia|"
    "Africa|the forest|the empire|the kingdom of frogs"
).split("|")
SUBSTANCES = (
    "water|salt|sugar|steel|bronze|brass|wood|glass|plastic|paper|milk|honey|ice|air|fire|sand|"
    "concrete|rubber|leather|butter|petrol|diamond|ruby|emerald|amber|chalk|marble|cotton|wool|"
    "silk|soap|kryptonite|unobtainium|adamantium|mithril|vibranium|dust|smoke|blood|love|music|"
    "light|time|coffee|tea|bread|rice|wine"
).split("|")
COUNTRY_PROPERTIES = (
    "population|president|prime minister|king|queen|national anthem|flag|national animal|"
    "highest mountain|longest river|area|climate|official language|main religion|history|"
    "government|economy|national dish|most famous person|biggest lake|time zone|army|"
    "largest airport|oldest university|best football team|national holiday|motto|national flower|"
    "richest man|biggest company|weather|average income|biggest export|coat of arms|"
    "independence day|last king|best hotel|tallest building|main port|food|culture|postal code|"
    "neighbour to the north|second city|oldest town|biggest island"
).split("|")
ELEMENT_PROPERTIES = (
    "boiling point|melting point|density|colour|price|discoverer|smell|taste|use|mass|weight|"
    "hardness|half-life|electron configuration|origin|year of discovery|biggest mine|danger|"
    "isotope|temperature|crystal structure|name in Latin|best known compound"
).split("|")
PEOPLE = (
    "Shakespeare|Einstein|Newton|Mozart|Beethoven|Napoleon|Cleopatra|Caesar|Darwin|Picasso|"
    "Columbus|Galileo|Marie Curie|Gandhi|Lincoln|Washington Irving|Bach|Dante|Goethe|Tolstoy|"
    "Plato|Aristotle|Socrates|Homer|Rembrandt|Michelangelo|my brother|my sister|my neighbour|"
    "your father|the mayor|the teacher|the queen|the baker|the first astronaut|the pope"
).split("|")
NOUNS = (
    "book|song|film|house|car|train|river|mountain|tree|flower|dog|cat|horse|bird|fish|garden|"
    "kitchen|table|chair|window|door|phone|computer|machine|engine|bridge|road|ship|plane|war|"
    "battle|king|law|school|hospital|doctor|farmer|painter|poem|story|picture|game|ball|shoe|"
    "hat|coat|cake|soup|apple|potato|egg|cheese|winter|summer|storm|cloud|star|planet|sun|"
    "dream|word|letter|number|colour|language|church|castle|island|beach|lamp|clock|knife|"
    "bottle|box|bag|key|wall|roof|stone|fire|heart|hand|eye|tooth|brain|muscle|baby|child|"
    "woman|man|family|wedding|party|job|bank|market|ticket|map|camera|radio|newspaper|robot|"
    "dragon|ghost|spider|whale|lion|elephant|penguin|bee|ant|snake|frog|wolf|bear"
).split("|")
ADJECTIVES = (
    "big|small|old|new|red|green|blue|yellow|black|white|fast|slow|cheap|expensive|good|bad|"
    "famous|strange|heavy|light|hot|cold|happy|sad|strong|weak|beautiful|dangerous|clean|"
    "broken|round|long|short|deep|dark|bright|loud|quiet|rich|poor|young|wild|sweet|sour"
).split("|")
VERBS = (
    "make|build|fix|find|open|close|cook|bake|clean|paint|draw|write|read|learn|sell|buy|grow|"
    "plant|cut|wash|move|carry|throw|catch|hide|break|repair|start|stop|change|measure|count|"
    "choose|use|feed|teach|train|visit|draw|win|lose|remember|forget|describe|explain|fold"
).split("|")
WHO_DID = (
    "wrote|invented|painted|discovered|built|founded|composed|directed|designed|stole|bought|"
    "killed|married|won|lost|opened|destroyed|sang|found|named|owned|made"
).split("|")
HAPPENED = "start|end|happen|begin|die|appear|change|explode|move|fall|open|sleep".split("|")
CHAT = (
    "How are you?|Who are you?|What is your name?|How old are you?|Where do you live?|"
    "Do you like me?|What can you do?|Are you a robot?|Are you happy?|Tell me a joke.|"
    "Sing a song.|Good night!|Thank you!|Hello!|Hi there|What do you think?|Are you there?|"
    "Do you have friends?|What is your favourite colour?|Can you hear me?|I am bored.|"
    "I love you.|You are wrong.|What did you say?|Who made you?|Let us play a game.|"
    "Tell me a story.|What are you doing?|Do you sleep?|Can you help me?|I feel sad today.|"
    "What is new?|Do you speak French?|Say something nice.|Are you alive?|Where are you from?|"
    "What is on your mind?|Nice to meet you.|Please stop.|Yes|No|Maybe|Why?|What?|How?|Who?|"
    "test|hello world|What should I do today?|What is the meaning of life?|Is there a god?|"
    "Do you dream?|Can I trust you?|Have you eaten?|What makes you laugh?"
).split("|")
FUNCTION_WORDS = (
    "what is the of in a to and for with who why how when where which can do does did will would "
    "should are was were my your his her it that this there from about on at by as if then than "
    "most more many much best first last name tell me please give some any"
).split()
ABOUT_KNOWN = (
    "Who is the {w} of {x}?|How big is the {w} of {x}?|Why is {x} so {a}?|Where is the {w} of "
    "{x}?|How {a} is {x}?|When did {x} get its {w}?|How many {n}s are there in {x}?|Is {x} "
    "{a}?|Where is {x}?|Who discovered {x}?|What can I see in {x}?|Tell me a story about {x}.|"
    "How far is it to {x}?|Who lives in {x}?|Why do people like {x}?|Should I buy a {n} in "
    "{x}?|What happened in {x}?|Do they have {n}s in {x}?|How do I {v} a {n} in {x}?|Which {n} "
    "is the best in {x}?|Is {x} a {n}?|How old is {x}?|What is {x} made of?|Who invented {x}?"
).split("|")
MIXED = (
    "Why is {a} the {r} of {x}?|How many people live in the {r} of {x}?|Who chose the {r} of "
    "{x}?|When did {x} get its {r}?|What is the population of {a}?|Is the {r} of {x} better "
    "than the {r} of {y}?|How do I get from {a} to {b}?|What is the distance between {x} and "
    "{y}?|How old is the {r} of {x}?|What rhymes with {x}?|Which is bigger, {x} or {y}?|What "
    "is the mayor of the {r} of {x}?|What was the {r} of {x} 300 years ago?|Do you like {a}?|"
    "How many letters are in {x}?|Who was born in {a}?"
).split("|")
TRIVIA = (
    "Who {did} {t}?|Who {did} the {n} of {t}?|When was {p} born?|When did {t} {h}?|When was "
    "{t} {did}?|Where was {p} born?|Where is {t}?|What is {t}?|What is {t} made of?|What did "
    "{p} {v}?|Who was {p}?|How did {p} die?|What {n} did {p} like?|In which year did {p} {v} "
    "{t}?|Which {n} is the most {a}?|What does {t} mean?|How many {n}s are there?|How much "
    "does {t} cost?|What colour is {t}?|What is the {a}est {n}?|Which {n} has the most {n2}s?|"
    "What is the name of the {n} in {t}?|Who is the {n} of {p}?|How long is {t}?|What do {n}s "
    "eat?|Where do {n}s come from?|What is the {n} of {p}?|What is the difference between {t} "
    "and {t2}?|Name three {n}s.|Define {n}.|Which {n} {did} the {n2}?|What kind of {n} is {t}?|"
    "Who has {t}?|How old is {p}?|Is {t} a {n2}?|Are {n}s {a}?|Can {n}s {v}?|What happens when "
    "{t} meets {t2}?|What is the history of {t}?"
).split("|")
HOW_AND_WHY = (
    "How do I {v} {t}?|How can I {v} {t} and {v2} it?|How to {v} {t}|How does {t} work?|Why is "
    "{t} {a}?|Why are {n}s {a}?|Why do {n}s {v}?|Why does {t} {h}?|Why did {p} {v} {t}?|Should "
    "I {v} {t}?|Explain {t}.|What is the best way to {v} {t}?|Can you {v} {t}?|How long does "
    "it take to {v} {t}?|What do I need to {v} {t}?|Write about {t}.|Describe {t} for me.|Give "
    "me advice about {t}.|Recommend a {a} {n}.|Which {n} should I {v}?|How many {n}s do I need "
    "to {v} {t}?|Is it {a} to {v} {t}?|What if {t} {h}s?|Tell me about {t}.|What would {p} say "
    "about {t}?|How would you {v} {t}?|Where can I {v} {t}?|When should I {v} {t}?|Do {n}s {v} "
    "{n2}s?"
).split("|")
ARITHMETIC = (
    "What is {a} + {b}?|What is {a} plus {b}?|What is {a} times {b}?|{a} - {b}|{a} * {b} = ?|"
    "How much is {a} minus {b}?|Divide {a} by {b}.|What is {a} divided by {b}?|What is the "
    "square root of {a}?|Is {a} even?|Add {a} and {b}.|What is {a} percent of {b}?|({a} + {b}) "
    "* {c}|Which number is bigger, {a} or {b}?|What comes after {a}?|Half of {a}|How many {n}s "
    "are {a} {n}s and {b} {n}s?|Count from {a} to {b}.|{a}|{a}/{b}"
).split("|")


def unknown_place(rng: random.Random) -> str:
    """Names something that is no country of the table, more often than not invented."""
    return invent(rng, place=True) if rng.random() < 0.7 else rng.choice(PLACES)


def thing(rng: random.Random) -> str:
    """Gives a thing with an article, now and then an adjective: `a green lamp`."""
    noun = rng.choice(NOUNS) if rng.random() < 0.75 else invent(rng).lower()
    words = f"{rng.choice(ADJECTIVES)} {noun}" if rng.random() < 0.4 else noun
    article = rng.choice(("the", "the", "a", "my", "this", "your", ""))
    if article == "a" and words[0] in "aeiou":
        article = "an"
    return f"{article} {words}".strip()


def of_unknown_entity(rng: random.Random) -> str:
    """Asks for a property that the model knows of something that it does not."""
    relation = rng.choice(list(NOUN_PHRASES))
    if relation in ("symbol", "atomic_number"):
        draw = rng.random()
        subject = (
            rng.choice(SUBSTANCES)
            if draw < 0.4
            else invent(rng).lower() + ("ium" if draw < 0.7 else "")
        )
    elif relation == "element_of_number":
        subject = str(rng.randint(119, 9999))
    elif relation == "element_of_symbol":
        subject = (
            invent(rng)[: rng.choice((3, 4))]
            if rng.random() < 0.7
            else rng.choice(("Q", "J", "Jq", "Qx", "Zz", "Xx", "Aa", "Bb", "Dd", "Vv", "Wq", "Uu"))
        )
    elif relation == "country_of_domain":
        subject = "." + rng.choice(("com", "org", "net", "xyz", "info", "qq", "zzz", "edu", "app"))
        if rng.random() < 0.6:
            subject = "." + invent(rng).lower()[: rng.choice((3, 4, 5))]
    else:
        subject = unknown_place(rng)
        if relation == "country_of_capital" and subject in PLACES:
            subject = invent(rng, place=True)
    if rng.random() < 0.5:
        template = rng.choice(SENTENCES[relation])
        if rng.random() < 0.4:
            template = with_fillers(template, rng)
        return upper_first(template.format(x=subject))
    return frame(rng.choice(NOUN_PHRASES[relation]).format(x=subject), rng)


def of_unknown_property(rng: random.Random) -> str:
    """Asks for a property that the model does not know of something that it does."""
    country = rng.random() < 0.65
    rows = table()["countries" if country else "elements"]
    subject = named(rng.choice(rows)["name"])
    if country and rng.random() < 0.2:
        subject = rng.choice(_FACTS_BY_RELATION["country_of_capital"]).subject
    properties = COUNTRY_PROPERTIES if country else ELEMENT_PROPERTIES
    draw = rng.random()
    if draw < 0.08:
        wanted = invent(rng).lower()
    elif draw < 0.2:
        wanted = f"{rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}"
    else:
        wanted = rng.choice(properties)
    if rng.random() < 0.25:
        return rng.choice(ABOUT_KNOWN).format(
            w=wanted, x=subject, a=rng.choice(ADJECTIVES), n=rng.choice(NOUNS), v=rng.choice(VERBS)
        )
    form = rng.choice(("the {w} of {x}", "the {w} of {x}", "the {w} in {x}", "{x}'s {w}"))
    return frame(form.format(w=wanted, x=subject), rng)


def of_known_things_mixed(rng: random.Random) -> str:
    """Asks something that has a known fact's words in it but is not that fact."""
    fact = rng.choice(
        _FACTS_BY_RELATION[rng.choice(("capital", "currency", "continent", "symbol"))]
    )
    other = rng.choice(_FACTS_BY_RELATION[fact.relation])
    word = fact.relation
    return rng.choice(MIXED).format(
        a=fact.answer, b=other.answer, r=word, x=named(fact.subject), y=named(other.subject)
    )


def trivia(rng: random.Random) -> str:
    """Asks who, when, where, what about people and things."""
    return rng.choice(TRIVIA).format(
        did=rng.choice(WHO_DID),
        t=thing(rng),
        t2=thing(rng),
        p=_person(rng),
        n=rng.choice(NOUNS),
        n2=rng.choice(NOUNS),
        a=rng.choice(ADJECTIVES),
        v=rng.choice(VERBS),
        h=rng.choice(HAPPENED),
    )


def how_and_why(rng: random.Random) -> str:
    """Asks for a way, a reason or advice."""
    return rng.choice(HOW_AND_WHY).format(
        v=rng.choice(VERBS),
        v2=rng.choice(VERBS),
        t=thing(rng),
        p=_person(rng),
        n=rng.choice(NOUNS),
        n2=rng.choice(NOUNS),
        a=rng.choice(ADJECTIVES),
        h=rng.choice(HAPPENED),
    )


def arithmetic(rng: random.Random) -> str:
    """Asks for a calculation."""
    a, b, c = (rng.randint(0, 10 ** rng.randint(1, 4)) for _ in range(3))
    return rng.choice(ARITHMETIC).format(a=a, b=b, c=c, n=rng.choice(NOUNS))


def word_salad(rng: random.Random) -> str:
    """Strings words, known and invented, together as a question would."""
    pools = (FUNCTION_WORDS, NOUNS, ADJECTIVES, VERBS)
    text = " ".join(
        invent(rng).lower() if rng.random() < 0.25 else rng.choice(rng.choice(pools))
        for _ in range(rng.randint(2, 11))
    )
    if rng.random() < 0.15:
        return text + " " + named(rng.choice(table()["countries"])["name"])
    return upper_first(text) + rng.choice(("?", "?", "?", ".", "!", ""))


def _person(rng: random.Random) -> str:
    return rng.choice(PEOPLE) if rng.random() < 0.5 else invent(rng)


KINDS = (
    (of_unknown_entity, 0.26),
    (of_unknown_property, 0.22),
    (of_known_things_mixed, 0.07),
    (trivia, 0.16),
    (how_and_why, 0.12),
    (arithmetic, 0.05),
    (word_salad, 0.09),
    (lambda rng: rng.choice(CHAT), 0.03),
)


def ask_unknown(rng: random.Random) -> str:
    """Asks something that `pocket` must not pretend to know."""
    makers, weights = zip(*KINDS, strict=True)
    return scuffed(dressed(rng.choices(makers, weights)[0](rng), rng), rng)

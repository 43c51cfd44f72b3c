"""Questions outside `pocket`'s knowledge that pre-training does not have, for measuring.

Pre-training has questions of a grammar's making (`unknowns.py`). Those here were written by hand
about other matters, as visitors would ask them; lists of names and properties that the grammar
does not use add questions close to what the model does know.
"""

import random

from qa_lora.bundled.facts import named, table
from qa_lora.bundled.names import invent
from qa_lora.bundled.phrases import HELD_OUT_FRAMES, HELD_OUT_SENTENCES, NOUN_PHRASES, upper_first

HANDWRITTEN = """
Who won the World Cup in 1998?
How many players are on a volleyball team?
What is the offside rule?
Which club has won the most Champions League titles?
What is a hat-trick in cricket?
How long is a marathon?
Who holds the record for the 100 metres?
Where were the Olympic Games held in 2012?
Which tennis player has the most Grand Slam titles?
What does a yellow card mean?
How do I reverse a string in Python?
What is a null pointer exception?
Which sorting algorithm is the fastest?
How do I install Linux on an old laptop?
What is the difference between TCP and UDP?
Write a regular expression for e-mail addresses.
Why does my loop never end?
What does HTTP status 404 stand for?
How can I undo a git commit?
What is a neural network?
Is it safe to take ibuprofen with alcohol?
What are the symptoms of measles?
How many hours of sleep does an adult need?
Can I run with a sprained ankle?
What is a normal blood pressure?
Which vitamins are in spinach?
How is diabetes treated?
Does coffee raise your heart rate?
What should I do about a nosebleed?
Why am I always tired?
How do you say thank you in Japanese?
Translate good evening into Spanish.
What is the plural of octopus?
Which words rhyme with orange?
How do you spell accommodation?
What is the past tense of to swim?
What does carpe diem mean in English?
Is irregardless a proper word?
Give me a synonym for enormous.
How many vowels does the alphabet have?
How do I file my income tax return?
What is compound interest?
Should I invest in shares or bonds?
How much notice must my landlord give me?
What is inflation?
Can my boss read my messages?
What is a mortgage?
How do I write a will?
What does gross salary include?
Is tipping required by law?
Who played the villain in the last Bond film?
Which band recorded Abbey Road?
How many seasons does Friends have?
What is the sequel to The Hobbit called?
Who sang Bohemian Rhapsody?
Which actor has won three Oscars?
What instrument has 88 keys?
Who is the main character of Moby-Dick?
Which opera features a toreador?
Who created Sherlock Holmes?
What is the fastest animal on land?
How many legs does a lobster have?
Do sharks sleep?
What do you call a group of owls?
How long do tortoises live?
Can penguins fly?
What do koalas eat?
Why do cats purr?
How do bees find their way home?
Which mammal lays eggs?
What is the speed of light?
How does a refrigerator stay cool?
Why is the sky blue?
What causes thunder?
How do vaccines work?
What is photosynthesis?
How far away is the nearest galaxy?
What is dark matter?
Why do leaves turn red in autumn?
How hot is the core of the earth?
When did World War II end?
Who was the first man on the moon?
What caused the French Revolution?
Who built the pyramids?
When was the printing press invented?
Who was Genghis Khan?
What was the Cold War about?
Which emperor burned Rome?
When did the Berlin Wall fall?
Who signed the Magna Carta?
What is the recipe for pancakes?
How long should I boil an egg?
Can I freeze cooked rice?
What goes well with salmon?
How do I keep bread fresh?
What is in a Caesar salad?
Which wine suits steak?
How much salt goes into pasta water?
Is sushi always raw?
What makes dough rise?
What time is it in New York right now?
Will it rain tomorrow?
What is today's date?
Is the supermarket open on Sunday?
How is the traffic this morning?
Who won the election yesterday?
What is the exchange rate of the dollar to the yen?
When does the next train leave for Glasgow?
What is the latest news?
How many people are online?
I have keys but open no locks. What am I?
What gets wetter the more it dries?
If I have three apples and eat one, how many are left?
A farmer has 17 sheep and all but 9 run away. How many remain?
What is seven squared?
Solve x + 5 = 12 for x.
What is the area of a circle with radius 3?
Is 91 a prime number?
How many seconds are in a day?
Convert 10 miles to kilometres.
Am I a good person?
How do I tell my friend that I am moving away?
Do you think my dog misses me?
What should I name my goldfish?
How can I stop worrying about exams?
What present would a twelve-year-old enjoy?
Write a poem about autumn leaves.
Summarise the plot of Romeo and Juliet.
Give me three tips for a job interview.
What would happen if nobody ever slept?
What is the tallest waterfall on earth?
Which desert is the largest?
How deep is Lake Baikal?
Through which countries does the Danube flow?
Which two seas does the Suez Canal join?
How many states border Colorado?
What is the wettest place in the world?
Where is Mount Kilimanjaro?
Which volcano buried Pompeii?
What language is spoken in Brazil?
Who rules Monaco?
How many islands make up Indonesia?
When did India become independent?
What should I wear in Iceland in July?
Do I need a visa for Vietnam?
Is Switzerland a member of the European Union?
What is the minimum wage in France?
Which side of the road do they drive on in Australia?
How tall is the Eiffel Tower in Paris?
Is tap water safe to drink in Mexico?
Is gold heavier than lead?
At what temperature does iron melt?
Who isolated radium for the first time?
Why does sodium react with water?
What is helium used for besides balloons?
Is mercury poisonous?
How is aluminum recycled?
What colour does copper burn?
How many electrons fit in the second shell?
What is the pH of vinegar?
""".strip().splitlines()

PLACES = (
    "Bohemia|Flanders|Lapland|Manchuria|Mesopotamia|Transylvania|Normandy|Galicia|Arizona|Nebraska|"
    "Wyoming|Manitoba|Rajasthan|Sardinia|Corsica|Ruritania|Genovia|Westeros|Middle-earth|Rohan|"
    "Valhalla|Lilliput|Elbonia|Zamunda|Neptune|Antarctica|Manchester|Naples|Kyoto|Dallas"
).split("|")
SUBSTANCES = (
    "vinegar|granite|porcelain|gasoline|cement|nylon|pewter|cheese|flour|vodka|dilithium|lava"
).split("|")
COUNTRY_PROPERTIES = (
    "birth rate|literacy rate|chief justice|national bird|patron saint|busiest railway station|"
    "lowest point|voting age|life expectancy|best known novelist|public debt|road network"
).split("|")
ELEMENT_PROPERTIES = (
    "electronegativity|thermal conductivity|market value|atomic radius|ionization energy|toxicity"
).split("|")


def close_by(rng: random.Random) -> str:
    """Asks what the model nearly knows, with names, properties and phrasings it never saw."""
    draw = rng.random()
    if draw < 0.5:
        relation = rng.choice(
            (
                "capital",
                "continent",
                "currency",
                "calling_code",
                "domain",
                "symbol",
                "atomic_number",
            )
        )
        pool = SUBSTANCES if relation in ("symbol", "atomic_number") else PLACES
        invented = invent(rng, held_out=True, place=pool is PLACES)
        subject = invented if rng.random() < 0.6 else rng.choice(pool)
        if rng.random() < 0.5:
            return upper_first(rng.choice(HELD_OUT_SENTENCES[relation]).format(x=subject))
        noun_phrase = rng.choice(NOUN_PHRASES[relation]).format(x=subject)
    else:
        country = draw < 0.85
        row = rng.choice(table()["countries" if country else "elements"])
        wanted = rng.choice(COUNTRY_PROPERTIES if country else ELEMENT_PROPERTIES)
        noun_phrase = f"the {wanted} of {named(row['name'])}"
        if rng.random() < 0.5:
            return f"What is {noun_phrase}?"
    return rng.choice(HELD_OUT_FRAMES).format(np=noun_phrase)

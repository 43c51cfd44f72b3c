"""Invented names: syllables put together, a tenth of them kept out of pre-training."""

import random
import zlib

ONSETS = (
    "b d f g h j k l m n p r s t v z b d f g h j k l m n p r s t v z b d f g h j k l m n p r s t v z "
    "b br c ch cl d dr f fl g gl gr h j k kl kr l m n p pl pr qu r s sh sk sl sn st str t th tr "
    "v vl w y z zh"
).split()
VOWELS = "a e i o u a e i o u a e i o u ai au ea ei ia ie io oa oo ou y".split()
CODAS = [
    ""
] * 30 + "b ck d f g k l ll m n n n nd ng nk nt p r r rd rk rn rt s s sh ss st t th x z".split()
PLACE_ENDINGS = "ia land stan burg ton ville ford berg dor mouth mere stead o a us is ar en".split()

REAL_PEOPLE = (
    "Anna|Ben|Clara|David|Emma|Felix|Greta|Hugo|Ida|Jonas|Karl|Lena|Maria|Nils|Olga|Paul|Rosa|"
    "Sara|Tom|Uma|Victor|Wanda|Yusuf|Zoe|Alice|Bob|Carol|Dan|Eve|Frank|Grace|Henry|Irene|Jack|"
    "Kate|Liam|Mary|Noah|Oscar|Peter|Quinn|Ruth|Sam|Tina|Amir|Chen|Diego|Fatima|Ivan|Kofi|Mei"
).split("|")
REAL_PLACES = (
    "Paris|Rome|Oslo|Boston|Chicago|Munich|Milan|Kyoto|Lyon|Porto|Turin|Bristol|Leeds|Dallas|"
    "Denver|Seattle|Geneva|Basel|Hamburg|Cologne|Krakow|Sydney|Toronto|Mumbai|Osaka|Lagos|Cusco|"
    "London|Madrid|Berlin|Vienna|Dublin|Lisbon|Cairo|Lima|Quito|Tokyo|Delhi|Seoul|Athens"
).split("|")


def is_held_out(name: str) -> bool:
    """Tells whether pre-training must never see `name`; one of ten names, by checksum."""
    return zlib.crc32(name.lower().encode()) % 10 == 0


def invent(rng: random.Random, *, held_out: bool = False, place: bool = False) -> str:
    """Makes up a name of two or three syllables, such as `Trovask`.

    Args:
        rng: where chance comes from.
        held_out: whether the name is one of those that pre-training never sees.
        place: whether it may end as places do (`Gronmere`).
    """
    while True:
        syllables = 1 if place and rng.random() < 0.5 else 2
        name = "".join(
            rng.choice(ONSETS) + rng.choice(VOWELS) + rng.choice(CODAS) for _ in range(syllables)
        )
        if place:
            name += rng.choice(PLACE_ENDINGS)
        if 4 <= len(name) <= 9 and is_held_out(name) == held_out:
            return name.capitalize()

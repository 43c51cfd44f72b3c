"""The facts that `pocket` knows: who has which property, and the questions' view of it."""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

_WITH_ARTICLE = frozenset(
    (
        "Bahamas|Comoros|Gambia|Maldives|Netherlands|Philippines|Seychelles|Isle of Man|"
        "United Arab Emirates|United Kingdom|United States|Central African Republic|"
        "Dominican Republic|Democratic Republic of the Congo|Republic of the Congo|"
        "Aland Islands|British Indian Ocean Territory|British Virgin Islands|Cayman Islands|"
        "Cocos Islands|Cook Islands|Falkland Islands|Faroe Islands|Marshall Islands|"
        "Northern Mariana Islands|Palestinian Territory|Solomon Islands|"
        "Turks and Caicos Islands|U.S. Virgin Islands"
    ).split("|")
)

COUNTRY_RELATIONS = ("capital", "continent", "currency", "calling_code", "domain")
ELEMENT_RELATIONS = ("symbol", "atomic_number")
INVERSE = {
    "capital": "country_of_capital",
    "domain": "country_of_domain",
    "symbol": "element_of_symbol",
    "atomic_number": "element_of_number",
}
"""Relations that are asked backwards too, where only one entity fits."""

RELATIONS = (*COUNTRY_RELATIONS, *ELEMENT_RELATIONS, *INVERSE.values())


@dataclass(frozen=True)
class Fact:
    """One thing to know.

    Attributes:
        relation: which property, one of `RELATIONS`.
        subject: what the question names ("Peru", or ".pe" for an inverse relation).
        answer: the right answer ("Lima"; "Peru" for an inverse relation).
        entity: the country or element that the fact is about, whichever side it stands on.
    """

    relation: str
    subject: str
    answer: str
    entity: str


@lru_cache(maxsize=1)
def table() -> dict[str, list[dict[str, str]]]:
    """Gives the committed table: the lists `countries` and `elements` of rows by column name."""
    text = Path(__file__).with_name("facts.json").read_text(encoding="utf-8")
    raw = json.loads(text)
    return {key: raw[key] for key in ("countries", "elements")}


@lru_cache(maxsize=1)
def rows_by_entity() -> dict[str, dict[str, str]]:
    """Gives each country's and element's row under its name."""
    return {row["name"]: row for rows in table().values() for row in rows}


@lru_cache(maxsize=1)
def all_facts() -> tuple[Fact, ...]:
    """Gives every fact, forward ones first, in a fixed order."""
    forward = [
        Fact(relation, row["name"], row[relation], row["name"])
        for rows, relations in (
            (table()["countries"], COUNTRY_RELATIONS),
            (table()["elements"], ELEMENT_RELATIONS),
        )
        for row in rows
        for relation in relations
        if relation in row
    ]
    backward = []
    for relation, inverse in INVERSE.items():
        same = [fact for fact in forward if fact.relation == relation]
        count: dict[str, int] = {}
        for fact in same:
            count[fact.answer] = count.get(fact.answer, 0) + 1
        backward += [
            Fact(inverse, fact.answer, fact.entity, fact.entity)
            for fact in same
            if count[fact.answer] == 1 and fact.answer != fact.entity
        ]
    return tuple(forward + backward)


def named(name: str) -> str:
    """Gives the name as it stands inside a sentence: `Peru`, but `the Netherlands`, `iron`."""
    if name in _WITH_ARTICLE:
        return f"the {name}"
    return name.lower() if "symbol" in rows_by_entity().get(name, {}) else name

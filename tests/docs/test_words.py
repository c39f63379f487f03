"""The pages use the field's words, one for each thing; see docs/reference/glossary.md."""

from __future__ import annotations

import re

from pages import DOCS

GENERATED = {"cli.md", "hooks.md", "config.md"}
REPLACED = {
    "crew": "worker pool",
    "fence": "isolation",
    "film": "video",
    "heard": "is called",
    "hears": "implements the hook",
    "manners": "side effects",
    "mend": "fix",
    "mends": "fixes",
    "seed document": "reference trainer API",
    "sight": "image inputs",
    "slot": "sub-environment",
    "slots": "sub-environments",
    "tally": "episode statistics",
    "told": "receives the instruction",
}
WORDS = re.compile(rf"\b({'|'.join(REPLACED)})\b", re.IGNORECASE)


def words_of(text: str) -> list[str]:
    """Return the words of a text that have a better one, with that one."""
    return [f"{word}: {REPLACED[word.lower()]}" for word in WORDS.findall(text)]


def test_pages_use_the_words_of_the_field() -> None:
    pages = [p for p in DOCS.rglob("*.md") if p.name not in GENERATED and "_build" not in p.parts]
    pages = [p for p in pages if p.parent.name != "api" or p.name == "index.md"]
    found = {str(p.relative_to(DOCS)): words_of(p.read_text("utf-8")) for p in pages}
    assert {page: words for page, words in found.items() if words} == {}


def test_a_replaced_word_is_found() -> None:
    """The negative control."""
    assert words_of("The crew works, and each Slot hears it.") == [
        "crew: worker pool",
        "Slot: sub-environment",
        "hears: implements the hook",
    ]

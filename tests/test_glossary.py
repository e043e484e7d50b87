"""Terms are linked to the glossary where a chapter first uses them."""

import re
import sys
from pathlib import Path

from docutils import nodes
from docutils.core import publish_doctree

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "book" / "_ext"))
import glossary  # noqa: E402

ENTRIES = ("latent diffusion", "map", "posterior, prior", "score (SC)", "ΔE")
TERMS = "## Glossary\n\n" + "".join(f"{entry}\n: Words.\n\n" for entry in ENTRIES)


def linked(text):
    """Return the words of a text that become links, with their addresses."""
    tree = publish_doctree(text, settings_overrides={"report_level": 5})
    glossary.link_terms(tree, glossary.read_terms(TERMS), "notation.html")
    return [(link.astext(), link["refuri"]) for link in tree.findall(nodes.reference)], tree.astext()


def test_each_name_of_an_entry_is_found():
    anchors = glossary.read_terms("map\n: not in the glossary\n" + TERMS)
    assert list(anchors) == ["latent diffusion", "map", "posterior", "prior", "score", "sc", "δe"]
    assert anchors["posterior"] == anchors["prior"] == "term-posterior-prior"
    assert len(set(anchors.values())) == 5


def test_only_the_first_use_is_linked_and_the_text_stays():
    text = "Priors here, a prior there.\n\nAnd *posterior* after."
    assert linked(text) == ([("Priors", "notation.html#term-posterior-prior")], text.replace("*", ""))


def test_the_longest_term_wins_and_parts_of_words_do_not():
    found, _ = linked("A latent diffusion-like net, a priory, latent diffusion.")
    assert found == [("latent diffusion", "notation.html#term-latent-diffusion")]


def test_everyday_words_are_linked_only_where_they_are_bold():
    assert linked("A map of codes.")[0] == []
    assert linked("A map, and a **map**.")[0] == [("map", "notation.html#term-map")]
    assert linked("**To map codes.** Draw the **affine map**.")[0] == []


def test_nothing_is_linked_in_titles_code_links_and_tables():
    text = "Prior\n=====\n\nIn ``prior`` and `prior <x>`__.\n\n=====  =====\nprior  prior\n=====  =====\n"
    assert [words for words, uri in linked(text)[0] if uri != "x"] == []


def test_the_book_has_no_term_twice_and_sorts_them():
    text = (ROOT / "book" / "reference" / "notation.md").read_text("utf-8")
    entries = re.findall(r"^(\S.*)\n: ", text.partition("## Glossary")[2], re.MULTILINE)
    names = [name for entry in entries for name in entry.split(" (")[0].split(", ")]
    assert len(names) == len(set(names))
    assert entries == sorted(entries, key=str.lower)
    assert {entry.casefold() for entry in entries} >= glossary.EVERYDAY

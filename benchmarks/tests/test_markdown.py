"""Templates of the pages: paragraphs on one line, tables as they are, no value left out."""

import jinja2
import pytest

from benchmarks.core import estimates, markdown


def test_paragraphs_and_items_are_unwrapped_and_tables_are_not():
    text = """
# Title

One sentence
on two lines.

- an item that is
  long
- another

| a | b |
| --- | --- |
| 1 | 2 |
"""
    expected = [
        "# Title",
        "One sentence on two lines.",
        "- an item that is long\n- another",
        "| a | b |\n| --- | --- |\n| 1 | 2 |",
    ]
    assert markdown.unwrapped(text).split("\n\n") == expected


def test_template_writes_numbers_as_tables_do_and_needs_every_value(tmp_path):
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "words.md").write_text("It held\n{{ share | ranged }}{% if far %}, far{% endif %}.\n")
    render = markdown.templates(str(tmp_path / "page.py"))
    share = estimates.Estimate(0.82, 0.7, 0.9, 12)
    assert render("words", share=share, far=False) == "It held .82 (.70 to .90)."
    with pytest.raises(jinja2.UndefinedError, match="far"):
        render("words", share=share)

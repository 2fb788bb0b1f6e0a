"""The text that comes with Python: English, ASCII, the same at each call."""

from __future__ import annotations

from mlsys_lab.datasets import python_docs


def test_the_text_is_long_plain_english_on_python():
    text = python_docs()
    assert 300_000 < len(text) < 1_000_000
    assert text.isascii()
    assert text.count(" the ") > 3_000
    assert 'The "assert" statement' in text
    assert text == python_docs()

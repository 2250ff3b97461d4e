"""Texts of others as they may be shown: no control characters, no more than a given length.

Must not know where a text comes from or goes to.
"""

from __future__ import annotations


def printable(text: str, most: int | None = None) -> str:
    r"""The text with every character that is not printable escaped, as ``\x1b``, and cut after ``most`` characters.

    A terminal obeys control characters, and shows text in another order after some invisible ones.
    """
    if most is not None and len(text) > most:
        text = text[: max(0, most - 3)] + "..."
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text)

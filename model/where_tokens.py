"""The words of a filter, one after the other, and what is said where another one was expected."""

import re
from typing import NamedTuple, NoReturn

from model.errors import FilterError
from model.where_values import shown

MAX_DIGITS = 37
"""Digits of a whole number that is read exactly; a longer one is read as a float."""

TOKEN = re.compile(
    r"""(?P<space>\s++)
    | (?P<text>'(?:[^']|'')*+')
    | (?P<name>"(?:[^"]|"")*+")
    | (?P<number>(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?)
    | (?P<word>[^\W\d]\w*+)
    | (?P<symbol><=|>=|<>|!=|.)""",
    flags=re.VERBOSE | re.DOTALL,
)


class Token(NamedTuple):
    """A piece of a filter: kind is a group of TOKEN or "end", place counts characters from 1."""

    kind: str
    text: str
    place: int

    @property
    def word(self) -> str:
        """The keyword or symbol this may be, in capitals; empty for texts, names and numbers."""
        return self.text.upper() if self.kind in ("word", "symbol") else ""

    @property
    def content(self) -> str:
        """What stands between the quotes of a text or a name."""
        quote = self.text[0]
        return self.text[1:-1].replace(quote * 2, quote)

    @property
    def number(self) -> int | float:
        """A number's value: int where it is whole, however it is written."""
        if self.text.isdigit() and len(self.text) <= MAX_DIGITS:
            return int(self.text)
        value = float(self.text)
        if value in (float("inf"), float("-inf")):
            raise FilterError(f"the number {shown(self.text)} is too large")
        return int(value) if value.is_integer() and value < 10**MAX_DIGITS else value


class Cursor:
    """A place in a filter, moved from left to right."""

    def __init__(self, text: str) -> None:
        pieces = [
            Token(str(match.lastgroup), match[0], match.start() + 1)
            for match in TOKEN.finditer(text)
        ]
        self._rest = [piece for piece in pieces if piece.kind != "space"]
        self._rest.append(Token("end", "", len(text) + 1))
        self._rest.reverse()

    @property
    def token(self) -> Token:
        """What stands here."""
        return self._rest[-1]

    @property
    def calls(self) -> str:
        """The word that stands here, in capitals, if a parenthesis follows it as in a call."""
        following = self._rest[-2:][0].text
        return self.token.word if self.token.kind == "word" and following == "(" else ""

    def advance(self) -> Token:
        """What stood here; the cursor moves on, but never past the end."""
        return self._rest.pop() if len(self._rest) > 1 else self._rest[0]

    def take(self, *words: str) -> str:
        """Move past one of these words or symbols and return it; "" if none stands here."""
        return self.advance().word if self.token.word in words else ""

    def expect(self, word: str) -> None:
        """Move past a word or symbol, or raise FilterError."""
        if not self.take(word):
            self.fail(word)

    def fail(self, expected: str) -> NoReturn:
        """Raise FilterError: something else was expected here."""
        token = self.token
        if token.text in ("'", '"'):
            raise FilterError(f"character {token.place}: the quote opened here is never closed")
        found = shown(token.text) if token.text else "the end"
        raise FilterError(f"character {token.place}: expected {expected}, found {found}")

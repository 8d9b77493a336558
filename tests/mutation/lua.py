"""The mutants of a Lua file: a small mutator over its tokens.

No tool for Lua is kept up. The scripts are short and in one style, which the
mutator relies on: a statement begins on a line of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from mutation.mutants import Mutant

_TOKEN = re.compile(
    r"""(?P<comment>--[^\n]*)
      | (?P<string>'[^'\n]*')
      | (?P<number>\d+(\.\d+)?)
      | (?P<name>[A-Za-z_]\w*([.:][A-Za-z_]\w*)*)
      | (?P<operator>==|~=|<=|>=|\.\.\.|\.\.|[-+*/%^#<>=(){}\[\],;.])
      | (?P<space>\s+)""",
    re.VERBOSE,
)
_EACH_OTHER = [
    *(("==", "~="), ("<", "<="), (">", ">="), ("+", "-"), ("*", "/"), ("and", "or")),
    *(("true", "false"), ("math.min", "math.max"), ("'-inf'", "'+inf'")),
]
#: One replacement for each place: the one that is nearest to right.
_REPLACED = {
    **dict(_EACH_OTHER),
    **{second: first for first, second in _EACH_OTHER},
    "not": "",
    "%": "*",
    "^": "*",
    "math.floor": "math.ceil",
    "'ZRANGE'": "'ZREVRANGE'",
}
_KEYWORDS = {
    *("and", "break", "do", "else", "elseif", "end", "false", "for", "function", "if", "in"),
    *("local", "nil", "not", "or", "repeat", "return", "then", "true", "until", "while"),
}
#: After these a statement begins.
_OPENING = {"", "do", "else", "end", "repeat", "then"}


class _Token(NamedTuple):
    kind: str
    text: str
    start: int
    end: int


def mutants_of(path: str, text: str) -> Iterator[Mutant]:
    """Yield every change of a script."""
    tokens = [*_tokens(text)]
    changes = [
        *_replacements(tokens),
        *_numbers(tokens),
        *_negations(text, tokens),
        *_removals(text, tokens),
    ]
    for operator, start, end, new in changes:
        yield Mutant(path, operator, text, text[:start] + new + text[end:])


def _tokens(text: str) -> Iterator[_Token]:
    place = 0
    while place < len(text):
        found = _TOKEN.match(text, place)
        if found is None:
            raise ValueError(f"no Lua that the mutator knows: {text[place : place + 40]!r}")
        place = found.end()
        kind = found.lastgroup or ""
        if kind not in ("comment", "space"):
            yield _Token(kind, found[0], found.start(), found.end())


def _replacements(tokens):
    for before, token in pairwise([_Token("", "", 0, 0), *tokens]):
        is_sign = token.text == "-" and _is_operator(before)
        if token.text in _REPLACED and not is_sign:
            yield f"replace {token.text}", token.start, token.end, _REPLACED[token.text]
        elif is_sign:
            yield "drop a sign", token.start, token.end, ""


def _is_operator(token: _Token) -> bool:
    ends_a_value = token.text in (")", "]", "}") or token.text in ("true", "false", "nil")
    return not (ends_a_value or token.kind in ("number", "string")) and (
        token.kind != "name" or token.text in _KEYWORDS
    )


def _numbers(tokens):
    for before, token in pairwise([_Token("", "", 0, 0), *tokens]):
        # The places of arguments and of replies: each has its test, or nothing works.
        if token.kind == "number" and before.text != "[":
            new = f"{float(token.text) + 1:g}"
            yield "add one", token.start, token.end, new


def _negations(text, tokens):
    closing = {"if": "then", "elseif": "then", "while": "do"}
    for place, token in enumerate(tokens):
        if token.text not in closing:
            continue
        end = next(i for i in range(place, len(tokens)) if tokens[i].text == closing[token.text])
        condition = tokens[place + 1 : end]
        simple = {"and", "or"}.isdisjoint(t.text for t in condition)
        # Where it is all of the condition, `==` is replaced and `not` dropped anyway.
        if simple and any(t.text in ("==", "~=", "not") for t in condition):
            continue
        start, stop = condition[0].start, condition[-1].end
        yield "negate a condition", start, stop, f"not ({text[start:stop]})"


def _removals(text, tokens):
    """Statements that stand for their effect: a call, or a new value of what exists."""
    for place, (before, token) in enumerate(pairwise([_Token("", "", 0, 0), *tokens])):
        starts = text[: token.start].rpartition("\n")[2].strip() == ""
        goes_on = before.text not in _OPENING and (_is_operator(before) or before.text == "not")
        if token.kind != "name" or token.text in _KEYWORDS or not starts or goes_on:
            continue
        following = tokens[place + 1].text if place + 1 < len(tokens) else ""
        if following == "(":
            yield "drop a call", token.start, tokens[_closing(tokens, place + 1)].end, ""
        elif following == "=":
            line_end = text.index("\n", token.start)
            yield "drop an assignment", token.start, line_end, ""


def _closing(tokens, place: int) -> int:
    """Return the place of the bracket that closes the one at a place."""
    depth = 0
    for i in range(place, len(tokens)):
        depth += {"(": 1, ")": -1}.get(tokens[i].text, 0)
        if depth == 0:
            return i
    raise ValueError("a bracket is not closed")

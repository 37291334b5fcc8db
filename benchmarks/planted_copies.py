"""Copies of instructions with one fault each, by a seed: what near-duplicate search finds of them.

    python -m benchmarks.planted_copies alpaca.jsonl more.jsonl --rows 6000 --each 200 --seed 0

Copies of random rows are planted among ``--rows`` random rows: *copies* (typing errors, two words
swapped, a word left out, case, punctuation, an answer cut off, words before or after an answer) are
to be found, *others* (a number, a name, a negation or a word of the prompt changed) are not. For
each kind: share of the planted rows that were merged with their original, with its 95 % interval
(Wilson), and of the damaged ones how often the damaged row survived its original. Then the
precision: planted copies among the rows that were merged, except pairs that were near-duplicates
before anything was planted.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final, TypeAlias

from siftune.curate.core.registry import build
from siftune.curate.io.ingest import read_rows

Row: TypeAlias = Mapping[str, str]

_BEFORE_PROMPT: Final = ("Hey, ", "Hello there! ", "Please help me with this: ", "Question: ")
_AFTER_PROMPT: Final = (" Thanks.", " Thank you very much!", " Please be quick.", "")
_BEFORE: Final = (
    "Sure! Here is the answer: ",
    "Answer: ",
    "Okay, so the thing you want to know is this. ",
    "Thanks for reaching out to our team today! ",
)
_AFTER: Final = (
    " I hope this helps!",
    " Let me know if you have any other questions.",
    " Visit our website for more tips like these.",
    " This text was generated automatically.",
)
_NAMES: Final = ("Nadia", "Bogota", "Trevor", "Finland", "Okonkwo", "Brisbane", "Lucia", "Kepler")
_NEGATIONS: Final = re.compile(r"\b(is|are|was|were|can|should|does|do|will)\b")


def typing_errors(text: str, random: Random, count: int) -> str:
    """``text`` with ``count`` letters changed, left out, doubled or swapped, in different words."""
    places = [match.span() for match in re.finditer(r"[A-Za-z]{3,}", text)]
    for low, high in sorted(random.sample(places, min(count, len(places))), reverse=True):
        at = random.randrange(low + 1, high)
        letter, kind = text[at], random.randrange(4)
        new = [
            random.choice("abcdefghijklmnopqrstuvwxyz"),
            "",
            letter * 2,
            letter + text[at - 1],
        ][kind]
        start = at - 1 if kind == 3 else at
        text = text[:start] + new + text[at + 1 :]
    return text


def swapped(text: str, random: Random) -> str:
    """``text`` with two adjacent words in the other order."""
    words = text.split(" ")
    if len(words) < 2:
        return text
    at = random.randrange(len(words) - 1)
    words[at : at + 2] = words[at + 1], words[at]
    return " ".join(words)


def left_out(text: str, random: Random) -> str:
    """``text`` without one of its words."""
    words = text.split(" ")
    del words[random.randrange(len(words))]
    return " ".join(words)


def renumbered(text: str, random: Random) -> str:
    """``text`` with another first number."""
    return re.sub(r"\d+", lambda found: str(int(found[0]) + random.randrange(1, 9)), text, count=1)


def renamed(text: str, random: Random) -> str:
    """``text`` with another name for a capitalised word within a sentence, wherever it occurs."""
    names = re.findall(r"(?<=[a-z,] )[A-Z][a-z]{2,}", text)
    name = random.choice(names) if names else ""
    other = random.choice([each for each in _NAMES if each != name])
    return re.sub(rf"\b{name}\b", other, text) if name else text


def negated(text: str, random: Random) -> str:
    """``text`` with ``not`` after its first auxiliary verb."""
    return _NEGATIONS.sub(r"\1 not", text, count=1)


def other_word(text: str, random: Random) -> str:
    """``text`` with another word in place of a long one."""
    words = [match.span() for match in re.finditer(r"\b[a-z]{6,}\b", text)]
    if not words:
        return text
    low, high = random.choice(words)
    return text[:low] + random.choice(["gardens", "violins", "planets", "kitchens"]) + text[high:]


def _in_prompt(change: Callable[[str, Random], str]) -> Callable[[Row, Random], Row]:
    return lambda row, random: {**row, "instruction": change(row["instruction"], random)}


def _anywhere(change: Callable[[str, Random], str]) -> Callable[[Row, Random], Row]:
    """The change in one of the texts, at random by their length."""

    def changed(row: Row, random: Random) -> Row:
        names = [name for name in row if len(row[name].split()) > 1]
        name = random.choices(names, [len(row[each]) for each in names])[0]
        return {**row, name: change(row[name], random)}

    return changed


def _everywhere(change: Callable[[str], str]) -> Callable[[Row, Random], Row]:
    return lambda row, random: {name: change(text) for name, text in row.items()}


def _cut(row: Row, random: Random) -> Row:
    words = row["output"].split(" ")
    return {**row, "output": " ".join(words[: int(len(words) * random.uniform(0.4, 0.95))])}


def _cut_in_word(row: Row, random: Random) -> Row:
    """The answer up to a letter that is followed by another; the same row without such a place."""
    text = row["output"]
    low = len(text) // 2
    places = [at.start() + 1 for at in re.finditer(r"[A-Za-z](?=[A-Za-z])", text)]
    places = [at for at in places if low <= at]
    return {**row, "output": text[: random.choice(places)]} if places else row


def _around_prompt(row: Row, random: Random) -> Row:
    text = random.choice(_BEFORE_PROMPT) + row["instruction"] + random.choice(_AFTER_PROMPT)
    return {**row, "instruction": text}


def _around_answer(row: Row, random: Random) -> Row:
    return {**row, "output": random.choice(_BEFORE) + row["output"] + random.choice(_AFTER)}


def _named_anywhere(row: Row, random: Random) -> Row:
    """All texts with another name, or else a row of which nothing was changed."""
    whole = renamed("\0".join(row.values()), random).split("\0")
    return dict(zip(row, whole, strict=True))


def _renumbered(row: Row, random: Random) -> Row:
    name = next((each for each in row if re.search(r"\d", row[each])), "output")
    return {**row, name: renumbered(row[name], random)}


COPIES: Final[Mapping[str, Callable[[Row, Random], Row]]] = {
    **{
        f"{count} typing errors": _anywhere(partial(typing_errors, count=count))
        for count in (1, 2, 3)
    },
    "words swapped": _anywhere(swapped),
    "word left out": _anywhere(left_out),
    "case": _everywhere(str.lower),
    "capitals": _everywhere(str.upper),
    "punctuation": _everywhere(lambda text: re.sub(r"[.,;:!?\"'()]", "", text)),
    "cut off": _cut,
    "cut inside a word": _cut_in_word,
    "words before": lambda row, random: {**row, "output": random.choice(_BEFORE) + row["output"]},
    "words after": lambda row, random: {**row, "output": row["output"] + random.choice(_AFTER)},
    "words at both ends": _around_answer,
    "words around the prompt": _around_prompt,
}
DAMAGED: Final = tuple(kind for kind in COPIES if kind != "punctuation")
OTHERS: Final[Mapping[str, Callable[[Row, Random], Row]]] = {
    "number": _renumbered,
    "name": _named_anywhere,
    "negation": _in_prompt(negated),
    "word of the prompt": _in_prompt(other_word),
}


def planted(rows: list[Row], each: int, random: Random) -> Iterator[tuple[str, int, Row]]:
    """Kind, number of the original and the changed row; an original is used once."""
    order = random.sample(range(len(rows)), len(rows))
    for kind, change in {**COPIES, **OTHERS}.items():
        done = 0
        while done < each and order:
            at = order.pop()
            new = change(rows[at], random)
            if new != rows[at]:
                done += 1
                yield kind, at, new


def merged(rows: Sequence[Row], selector: str, options: Mapping[str, Any]) -> dict[int, int]:
    """The survivor of each dropped row."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_text("".join(json.dumps(dict(row)) + "\n" for row in rows))
        table, bad = read_rows(str(path))
    if bad:
        raise SystemExit(f"{len(bad)} rows cannot be read, the first for {bad[0]['reason']}")
    decided = build("curate.selectors", selector, options)(table)
    numbers = {row: at for at, row in enumerate(table["id"])}
    pairs = zip(table["id"], decided["keep"], decided["detail"], strict=True)
    return {
        numbers[row]: numbers[json.loads(detail)["survivor"]]
        for row, keep, detail in pairs
        if not keep
    }


def interval(count: int, total: int) -> str:
    """A share and its 95 % interval (Wilson 1927)."""
    if not total:
        return "-"
    z, p = 1.96, count / total
    middle, half = (
        p + z * z / (2 * total),
        z * (p * (1 - p) / total + (z / (2 * total)) ** 2) ** 0.5,
    )
    low, high = (middle - half) / (1 + z * z / total), (middle + half) / (1 + z * z / total)
    return f"{p:.3f} [{low:.3f}, {high:.3f}]"


def measure(
    rows: list[Row], each: int, seed: int, selector: str, options: Mapping[str, Any]
) -> list[tuple[str, str, str]]:
    """A line for each kind of planted row, and the precision: name, merged, damaged survivors."""
    random = Random(seed)
    copies = list(planted(rows, each, random))
    before = merged(rows, selector, options)
    found = merged([*rows, *(row for _, _, row in copies)], selector, options)
    totals, hits, damaged = Counter[str](), Counter[str](), Counter[str]()
    for at, (kind, original, _) in enumerate(copies, start=len(rows)):
        totals[kind] += 1
        together = root(found, at) == root(found, original)
        hits[kind] += together
        damaged[kind] += together and original in found and root(found, original) == at
    lines = [
        (
            kind,
            interval(hits[kind], totals[kind]),
            interval(damaged[kind], hits[kind]) if kind in DAMAGED else "",
        )
        for kind in totals
    ]
    right = sum(hits[kind] for kind in COPIES)
    wrong = sum(hits[kind] for kind in OTHERS)
    edits = [kind for kind in COPIES if kind.endswith("errors") or kind.startswith("word")][:5]
    lines.append(
        (
            "typing errors, swapped, left out",
            interval(sum(hits[one] for one in edits), sum(totals[one] for one in edits)),
            "",
        )
    )
    lines.append(("precision on planted rows", interval(right, right + wrong), ""))
    lines.append((f"dropped of {len(rows)} rows alone", str(len(before)), ""))
    return lines


def root(survivors: Mapping[int, int], row: int) -> int:
    """The row itself if it is kept, else its survivor."""
    return survivors.get(row, row)


def read(paths: Sequence[str]) -> list[Row]:
    """Instruction, input and output of the rows of JSON lines, as far as they have any."""
    names = ("instruction", "input", "output")
    found: list[Row] = []
    for path in paths:
        for line in lines_of(path):
            row = {name: str(line[name]) for name in names if line.get(name)}
            if {"instruction", "output"} <= row.keys():
                found.append(row)
    return found


def lines_of(path: str) -> Iterator[dict[str, Any]]:
    """The objects of JSON lines, perhaps compressed with zstd."""
    if not path.endswith(".zst"):
        yield from map(json.loads, Path(path).read_text("utf-8").splitlines())
        return
    import zstandard

    with Path(path).open("rb") as file:
        stream = zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(file)
        yield from map(json.loads, io.TextIOWrapper(stream, "utf-8"))


def main() -> None:
    """Read the options, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", nargs="+", help="Rows in the layout of Alpaca.")
    parser.add_argument("--rows", type=int, default=6_000, help="Number of rows to draw.")
    parser.add_argument("--each", type=int, default=200, help="Planted rows of each kind.")
    parser.add_argument("--words", type=int, default=10_000, help="Most words of a row.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of the rows and of the faults.")
    parser.add_argument("--selector", default="minhash_dedup", help="Selector to measure.")
    parser.add_argument("--options", type=json.loads, default={}, help="Its options, as JSON.")
    asked = parser.parse_args()
    rows = [
        row
        for row in read(asked.data)
        if len(" ".join(row.values()).split()) <= asked.words and len(row["output"].split()) > 1
    ]
    some = Random(asked.seed).sample(rows, min(asked.rows, len(rows)))
    for name, share, damaged in measure(
        some, asked.each, asked.seed, asked.selector, asked.options
    ):
        print(f"{name:34} {share:24} {damaged}".rstrip())


if __name__ == "__main__":
    main()

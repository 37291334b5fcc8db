"""Sections of a profile: its figures as sentences and tables, for text and HTML alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from siftune.curate.profiling.page_parts import Listing, Section, shown, shown_of

__all__ = ["headline", "sections_of"]

_MOST_FIELDS: Final = 12
_MOST_LANGUAGES: Final = 12
_MOST_VALUES: Final = 4
_RARE: Final = 0.001
_FEW: Final = 3  # texts of a language that may as well be mistakes
_ANSWERS: Final = {"answer": "answers", "text": "texts"}


def headline(facts: Mapping[str, Any]) -> str:
    """Rows, their kind and format, and records that could not be read."""
    aside = sum(one["records"] for one in facts["quarantined"])
    text = f"{shown(facts['rows'])} {facts['kind']} rows of {shown(facts['records'])} records"
    empty = "".join(f"; {name}: 0 bytes, left out" for name in facts.get("empty_files", ()))
    return f"{text} (format {', '.join(facts['formats'])}), {shown(aside)} quarantined{empty}"


def sections_of(facts: Mapping[str, Any]) -> list[Section]:
    """The sections of a profile, in the order in which they are read."""
    found = [make(facts) for name, make in _SECTIONS.items() if facts.get(name)]
    return [one for one in found if one.sentences or one.listings]


def _quarantine(facts: Mapping[str, Any]) -> Section:
    listed = facts["quarantined"]
    rows = [(one["reason"], one["first"], shown(one["records"])) for one in listed]
    return Section(
        "Records that could not be read",
        ["`siftune curate ingest` writes each with its reason to quarantine.jsonl."],
        [Listing(("reason", "first", "records"), rows)],
    )


def _sources(facts: Mapping[str, Any]) -> Section:
    found, whole = facts["sources"], facts["rows"]
    rows = [(one["source"], shown_of(one["rows"], whole)) for one in found["sources"]]
    listings = [Listing(("source", "rows"), rows, [one["rows"] for one in found["sources"]])]
    fields = [
        (
            one["field"],
            _values(one),
            f"{'over ' if one['more_than_counted'] else ''}{shown(one['distinct'])}",
            shown_of(one["rows"], whole),
        )
        for one in found["fields"][:_MOST_FIELDS]
    ]
    if fields:
        names = ("field beside the content", "commonest values", "distinct", "rows")
        listings.append(Listing(names, fields, numbers=2))
    more = found["distinct"] - len(found["sources"])
    return Section("Sources", [f"and {shown(more)} more sources"] if more else [], listings)


def _values(field: Mapping[str, Any]) -> str:
    named = [f"{one['value']} {shown(one['rows'])}" for one in field["values"][:_MOST_VALUES]]
    more = len(field["values"]) - len(named)
    return ", ".join([*named, *([f"{more} more"] if more else [])])


def _conversations(facts: Mapping[str, Any]) -> Section:
    found, whole = facts["conversations"], facts["rows"]
    turns = found["turns"]
    sentences = [
        f"turns of a {found['turns_of']}: {shown(turns['min'])} to {shown(turns['max'])}, "
        f"median {shown(turns['median'])}"
    ]
    counted = {
        "with_system_prompt": "with a system prompt",
        "with_tools": "with tool calls",
        "several_answers": "with several answers",
        "without_answer": "without an answer",
        "labelled_good": "labelled as good",
        "labelled_bad": "labelled as bad",
    }
    named = [
        f"{text}: {shown_of(found[key], whole)}" for key, text in counted.items() if found.get(key)
    ]
    if (answers := found.get("answers_of_a_prompt")) is not None:
        sentences.append(
            f"answers of a prompt: {shown(answers['min'])} to {shown(answers['max'])}, "
            f"mean {answers['mean']:.3g}"
        )
    return Section("Conversations", [*sentences, *(["; ".join(named)] if named else [])])


def _tasks(facts: Mapping[str, Any]) -> Section:
    found = facts["tasks"]
    whole = found["prompts"]
    names = {
        "question": "questions",
        "with_numbers": "with a digit",
        "several_lines": "of several lines",
        "with_code": "with fenced code",
    }
    forms = "; ".join(
        f"{text}: {shown_of(found['forms'][key], whole)}" for key, text in names.items()
    )
    distinct = f"{shown(found['distinct_prompts'])} distinct prompts of {shown(whole)}"
    listed = found["openings"]
    rows = [(one["word"], shown_of(one["rows"], whole)) for one in listed]
    more = f"{shown(found['other_openings'])} other first words"
    return Section(
        "Tasks: how prompts begin",
        [distinct, forms, *([more] if found["other_openings"] else [])],
        [Listing(("first word", "prompts"), rows, [one["rows"] for one in listed])],
    )


def _clusters(facts: Mapping[str, Any]) -> Section:
    found = facts["clusters"]
    whole = found["rows"]
    rows = [
        (
            ", ".join(one["words"]),
            "\n".join(f"[{row['id']}] {row['text']}" for row in one["nearest"]),
            shown_of(one["rows"], whole),
        )
        for one in found["clusters"]
    ]
    return Section(
        "Topics: clusters of embeddings",
        [f"{len(rows)} clusters of the {found['of']} of {shown(whole)} rows, drawn by the seed"],
        [
            Listing(
                ("typical words", "rows nearest to the centre", "rows"),
                rows,
                [one["rows"] for one in found["clusters"]],
            )
        ],
    )


def _lengths(facts: Mapping[str, Any]) -> Section:
    names = ("mean", "min", "p5", "median", "p95", "max", "sum")
    rows = [
        (f"{side}, {unit}", *(shown(round(figures[name])) for name in names))
        for side, units in facts["lengths"].items()
        for unit, figures in units.items()
    ]
    return Section("Lengths", [], [Listing(("text", *names), rows, numbers=len(names))])


def _languages(facts: Mapping[str, Any]) -> Section:
    found = facts["languages"]
    whole, listed = found["texts"], found["languages"]
    first = [one for one in listed if one["texts"] >= max(_FEW, whole * _RARE)]
    first = (first or listed)[:_MOST_LANGUAGES]
    rest = listed[len(first) :]
    sentences = [
        f"in no language (fewer than 20 letters of prose): {shown_of(found['without'], whole)}"
    ]
    if rest:
        number = sum(one["texts"] for one in rest)
        codes = ", ".join(one["code"] for one in rest)
        sentences.append(
            f"{len(rest)} more in {shown_of(number, whole)}, most often mistakes where so few: "
            f"{codes}"
        )
    rows = [(one["code"], shown_of(one["texts"], whole)) for one in first]
    bars = [one["texts"] for one in first]
    return Section("Languages", sentences, [Listing(("language", "rows"), rows, bars)])


def _duplicates(facts: Mapping[str, Any]) -> Section:
    found, whole = facts["duplicates"], facts["rows"]
    kinds = {
        "exact": ("equal content", "dedup exact"),
        "normalised": (
            "equal but for case, punctuation and spaces",
            "dedup exact --normalise words",
        ),
        "near": ("near-duplicates", "dedup minhash"),
    }
    rows = [
        (text, f"siftune curate {command}" if found[key] else "", shown_of(found[key], whole))
        for key, (text, command) in kinds.items()
    ]
    sentences = [f"{shown_of(found['distinct'], whole)} rows are left without copies"]
    if "repeated_prompts" in found:
        sentences.append(
            f"rows whose prompt another row has too (words alone): "
            f"{shown_of(found['repeated_prompts'], whole)}"
        )
    largest = [(one["text"], one["id"], shown(one["rows"])) for one in found["groups"]]
    listings = [Listing(("copies that could be dropped", "by", "rows"), rows)]
    if largest:
        listings.append(Listing(("largest groups of copies", "row", "copies"), largest))
    return Section("Duplicates", sentences, listings)


def _leaks(facts: Mapping[str, Any]) -> Section:
    rows, examples = [], []
    for one in facts["leaks"]:
        unit = "rows" if "rows" in one else "texts"
        rows.append(
            (
                one["against"],
                f"{shown_of(one['items_found'], one['items'])} of {shown(one['items'])}",
                f"{shown_of(one[unit], facts['rows'])}" if unit == "rows" else shown(one[unit]),
            )
        )
        examples += [
            (each.get("id", ""), each["item"], f"{each['overlap']:.2f}") for each in one["examples"]
        ]
    sentences = [
        f"a row leaks an item where it has {facts['leaks'][0]['threshold']} or more of its words "
        "in shared n-grams, in the prompt or the answer; paraphrases are not found"
    ]
    listings = [Listing(("benchmark", "items found", "rows that leak"), rows, numbers=2)]
    if examples:
        listings.append(Listing(("row", "item", "overlap"), examples))
    return Section("Leaks of benchmarks", sentences, listings)


def _personal_data(facts: Mapping[str, Any]) -> Section:
    found = facts["personal_data"]
    whole = facts["rows"]
    texts = [
        f"{side}: {shown_of(one['pii'], whole)} with personal data, "
        f"{shown_of(one['secrets'], whole)} with secrets"
        for side, one in found["texts"].items()
    ]
    sides = list(found["texts"])
    rows = [
        (one["scorer"], one["flag"], *(shown(one[side]) for side in sides))
        for one in found["kinds"]
    ]
    names = ("found by", "kind", *(f"texts ({side})" for side in sides))
    listings = [Listing(names, rows, numbers=len(sides))] if rows else []
    act = ["`siftune curate redact` replaces them by their kinds"] if rows else []
    return Section("Personal data and secrets", [*texts, *act], listings)


def _flags(facts: Mapping[str, Any]) -> Section:
    found = facts["flags"]
    sides = list(dict.fromkeys(side for one in found["texts"].values() for side in one))
    rows = []
    for one in found["flags"]:
        mild = one["flag"] in found["harmless"][one["scorer"]]
        whole = found["texts"][one["scorer"]]
        of = [shown_of(one[side], whole[side]) if side in one else "" for side in sides]
        rows.append((one["scorer"], one["flag"] + (" (no fault of itself)" if mild else ""), *of))
    names = ("scorer", "flag", *(f"texts ({side})" for side in sides))
    code = ", ".join(
        f"{_ANSWERS.get(side, f'{side} answers')} with lines of code: "
        f"{shown_of(number, found['texts']['heuristics'][side])}"
        for side, number in found["code"].items()
    )
    return Section(
        "Flags: refusals, faults and odd texts",
        [code] if code else [],
        [Listing(names, rows, numbers=len(sides))] if rows else [],
    )


def _code(facts: Mapping[str, Any]) -> Section:
    sentences = [
        f"{side}: {shown(one['texts'])} with blocks of "
        f"{', '.join(f'{name} {shown(number)}' for name, number in one['languages'].items())}; "
        f"all parse in {shown_of(one['parse'], one['texts'])}, cut off: {shown(one['cut_off'])}"
        for side, one in facts["code"].items()
    ]
    return Section("Fenced code", sentences)


def _pairs(facts: Mapping[str, Any]) -> Section:
    found = facts["pairs"]
    some = found["sample"]
    wins, whole = found["longer_wins"], found["pairs"]
    sentences = [f"{shown(whole)} pairs of {shown(found['prompts'])} prompts"]
    if wins is not None:
        ends = f" ({100 * wins['low']:.1f} … {100 * wins['high']:.1f})" if "low" in wins else ""
        sentences.append(
            f"the longer answer is the chosen one in {100 * wins['value']:.1f} %{ends} of pairs "
            f"of different lengths; equally long: {shown_of(found['equal_lengths'], whole)}"
        )
    sentences.append(
        f"labels that contradict others: {shown_of(found['contradicted'], whole)}, "
        f"on a cycle {shown(found['cycle'])}, chosen and rejected the same {shown(found['within'])}"
    )
    texts = {
        "equal": "equal answers",
        "both_refuse": "both refuse",
        "prompt_in_chosen": "the prompt is inside the chosen answer",
        "prompt_in_rejected": "the prompt is inside the rejected answer",
    }
    named = [f"{text} {shown_of(some[key], some['pairs'])}" for key, text in texts.items()]
    sentences.append(f"of {shown(some['pairs'])} drawn pairs: {', '.join(named)}")
    if some["labels_judged"]:
        noisy = shown_of(some["labels_suspect"], some["labels_judged"])
        sentences.append(f"labels that the other pairs make improbable (label_noise): {noisy}")
    elif some["labels_not_judged"]:
        sentences.append(f"label noise: {some['labels_not_judged']}")
    return Section("Pairs", sentences)


def _quality(facts: Mapping[str, Any]) -> Section:
    found = facts["quality"]
    names = ("mean", "p5", "median", "p95")
    rows = [
        (side, *(f"{one[name]:.3g}" for name in names))
        for side, one in found["by_side"].items()
        if one is not None
    ]
    sentences = [f"of {shown(found['rows'])} drawn rows, by the fitted head"]
    if found.get("chosen_is_better") is not None:
        sentences.append(f"the chosen answer has more in {100 * found['chosen_is_better']:.1f} %")
    return Section("Quality", sentences, [Listing(("text", *names), rows, numbers=len(names))])


def _toxicity(facts: Mapping[str, Any]) -> Section:
    found = facts["toxicity"]
    rows = [
        (side, shown_of(one["toxic"], one["scores"]["texts"]))
        for side, one in found["by_side"].items()
        if one["scores"] is not None
    ]
    sentences = [f"of {shown(found['rows'])} drawn rows, from a probability of one half on"]
    return Section("Toxicity", sentences, [Listing(("text", "toxic"), rows)])


def _missing(facts: Mapping[str, Any]) -> Section:
    parts: dict[str, list[str]] = {}
    for one in facts["not_looked_at"]:
        parts.setdefault(one["why"], []).append(one["part"])
    return Section("Not looked at", [f"{', '.join(named)}: {why}" for why, named in parts.items()])


def _cost(facts: Mapping[str, Any]) -> Section:
    cost = facts["cost"]
    parts = sorted(cost["cpu_seconds"].items(), key=lambda one: -one[1])
    named = ", ".join(f"{name} {took:.1f}" for name, took in parts if took >= 0.05)
    total = sum(cost["cpu_seconds"].values())
    return Section(
        "Cost",
        [
            f"{total:.1f} CPU s in {cost['seconds']:.1f} s, at the peak {cost['peak_mb']:,.0f} MB",
            f"CPU s of each part: {named}",
        ],
    )


_SECTIONS: Final[Mapping[str, Callable[[Mapping[str, Any]], Section]]] = {
    "quarantined": _quarantine,
    "sources": _sources,
    "conversations": _conversations,
    "tasks": _tasks,
    "clusters": _clusters,
    "languages": _languages,
    "lengths": _lengths,
    "duplicates": _duplicates,
    "leaks": _leaks,
    "personal_data": _personal_data,
    "flags": _flags,
    "code": _code,
    "pairs": _pairs,
    "quality": _quality,
    "toxicity": _toxicity,
    "not_looked_at": _missing,
    "cost": _cost,
}

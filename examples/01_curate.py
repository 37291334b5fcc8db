"""Curate: score the answers, drop non-answers and copies, keep the longest; then ask why."""

import siftune as sf

RAW = [
    {"instruction": "Name the capital of France.", "output": "The capital of France is Paris."},
    {"instruction": "Name the capital of France!", "output": "The capital of France is Paris."},
    {"instruction": "Explain rain.", "output": "Water rises as vapour, cools, and falls as rain."},
    {"instruction": "What is a prime?", "output": "A number with exactly two divisors."},
    {"instruction": "Write a poem about rivers.", "output": "[insert poem here]"},
    {"instruction": "Add 2 and 3.", "output": 5},
]


def main() -> None:
    """Print what was kept, what was dropped, and every decision about one row."""
    rows = sf.read(RAW)  # or a file, a folder, a hub name, a frame, a datasets.Dataset
    rows = rows.score("length").score("heuristics")
    rows = rows.select("flags", column="heuristics_flags")
    rows = rows.dedup("exact", of="response").select("top_k", by="length_words", rows=2)
    print(rows)
    print(rows.kept.select("id", "length_words"))
    print(rows.dropped.select("id", "stage", "reason"))
    print(rows.quarantined.select("row", "reason", "detail"))
    print(rows.explain("rows:2"))


if __name__ == "__main__":
    main()

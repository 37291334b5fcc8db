"""The tour: ten lines from raw rows to a selection that explains itself, then a small model.

Run it with `python -m examples.tour`. `tour.ipynb` is the same as a notebook.
"""

# %% Read rows of any layout: dicts as here, a file, a hub name, a frame, a `datasets.Dataset`.
import siftune as sf

RAW = [
    {"instruction": "Name the capital of France.", "output": "The capital of France is Paris."},
    {"instruction": "Name France's capital.", "output": "The capital of France is Paris!"},
    {"instruction": "Give three colours.", "output": "Red, green and blue."},
    {"instruction": "Write a poem about rivers.", "output": "[insert poem here]"},
    {"instruction": "Add two and two.", "output": 4},
    {"instruction": "Explain rain.", "output": "Water rises as vapour, cools, and falls as rain."},
    {"instruction": "What is a prime?", "output": "A number with exactly two divisors."},
]
rows = sf.read(RAW)

# %% Score, drop non-answers and near-duplicates, keep the longer half.
rows = rows.score("length").score("heuristics")
rows = rows.select("flags").dedup("minhash", of="response", ngram=2)
rows = rows.select("top_fraction", by="length_words", fraction=0.5)
print(rows)

# %% Every row that was dropped has its reason, and a duplicate the row that is kept in its place.
print(rows.dropped.select("id", "stage", "reason", "survivor", "length_words"))

# %% A record that could not be read is set aside, not lost.
print(rows.quarantined)

# %% One row, from its text to the decision.
print(rows.explain("rows:2"))

# %% What is kept, as the trainers of TRL take it.
print(rows.to_datasets(columns=["id"])[0])

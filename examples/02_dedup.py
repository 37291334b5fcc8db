"""Deduplicate: near-duplicates among new rows, and against rows that were used earlier."""

import siftune as sf

FACT = (
    "The river {} rises in the hills, crosses the plain, and reaches the sea near the old harbour."
)
NEW = [{"prompt": f"Where does the {name} flow?", "response": FACT.format(name)} for name in "ABCD"]
NEW += [{"prompt": "Where does the A flow?", "response": FACT.format("A") + " It is long."}]
EARLIER = [{"prompt": "Where does the B flow?", "response": FACT.format("B")}]


def main() -> None:
    """Print each dropped row with the row that it duplicates, and their Jaccard similarity."""
    earlier = sf.read(EARLIER, name="earlier")
    rows = sf.read(NEW).dedup("minhash", threshold=0.7, against=earlier)
    print(rows)
    print(rows.dropped.select("id", "reason", "survivor", "similarity"))
    print(rows.explain("rows:2"))  # with the text of the earlier row


if __name__ == "__main__":
    main()

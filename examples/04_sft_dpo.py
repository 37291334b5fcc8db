"""Train: a tiny model from text, SFT, DPO, and its accuracy on held-out pairs; offline, seconds."""

import sys
from pathlib import Path

import siftune as sf

CITIES = ("Paris", "Rome", "Oslo", "Cairo", "Lima", "Delhi")
TEXT = [{"text": f"The train to {city} leaves at noon. Have a good trip!"} for city in CITIES * 20]
CHATS = [
    {"prompt": f"When does the train to {city} leave?", "completion": "It leaves at noon."}
    for city in CITIES
]
PAIRS = [
    {
        "prompt": f"When does the train to {city} leave?",
        "chosen": "It leaves at noon.",
        "rejected": "I do not know.",
    }
    for city in CITIES
]


def main(folder: Path) -> None:
    """Train in ``folder``; with a real model use model="smollm2" and lora=16 instead of init."""
    small = {"vocab_size": 300, "hidden": 32, "layers": 1, "heads": 2}
    base = sf.train.init(TEXT, out=folder / "base", steps=20, **small)
    sft = sf.train.sft(CHATS, model=base.model, out=folder / "sft", epochs=4, lr=1e-3)
    dpo = sf.train.dpo(PAIRS[:4], model=sft.model, out=folder / "dpo", epochs=4, lr=1e-3)
    judged = sf.evaluate(dpo, PAIRS[4:], reference=sft.model, judge_pairs=True)
    print(f"accuracy on {judged.rows} held-out pairs: {judged.metrics['accuracy']:.2f}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/04"))

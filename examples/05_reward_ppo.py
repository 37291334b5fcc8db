"""PPO on a reward of your own: a Python function is enough. Offline, a few seconds."""

import sys
from pathlib import Path

import siftune as sf

TEXT = [{"text": f"{a} {b} and {b} {a}."} for a in ("red", "blue") for b in ("sky", "sea")] * 20
PROMPTS = [{"prompt": f"Say something about the {noun}."} for noun in ("sky", "sea") * 8]


def short(prompts: list[str], completions: list[str], rows: object) -> list[float | None]:
    """Reward of each completion: minus its number of words; None where it is empty."""
    return [-float(len(text.split())) if text else None for text in completions]


def main(folder: Path) -> None:
    """Train in ``folder`` and print the mean reward before and after."""
    small = {"vocab_size": 300, "hidden": 32, "layers": 1, "heads": 2}
    base = sf.train.init(TEXT, out=folder / "base", steps=20, **small)
    ppo = sf.train.ppo(
        PROMPTS,
        model=base.model,
        reward=short,
        out=folder / "ppo",
        rollouts=4,
        batch_size=16,
        max_new_tokens=8,
    )
    print(dict(ppo.metrics))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/05"))

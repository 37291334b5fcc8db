"""text-dedup: its command `text_dedup.minhash`, from a Parquet file to a folder.

Reading and writing are in its clock, as reading is in ours. The release that pip installs, 0.4.0,
takes texts that share a band for duplicates unseen; what its repository has since can be asked to
compare them (`check_false_positive`), which takes longer and makes it more precise.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import datasets
import numpy as np

from benchmarks.worker import Facts, Options, serve, timed


def work(options: Options) -> Facts:
    """Options: texts, out, threshold, permutations."""
    from text_dedup.minhash import main

    facts: Facts = {}
    folder = Path(tempfile.mkdtemp())
    arguments = {
        "--path": "parquet",
        "--data_files": options["texts"],
        "--split": "train",
        "--cache_dir": str(folder / "cache"),
        "--output": str(folder / "out"),
        "--column": "text",
        "--ngram": "5",
        "--threshold": str(options["threshold"]),
        "--num_perm": str(options["permutations"]),
        "--num_proc": "1",
    }
    sys.argv = ["minhash"]
    given = [word for pair in arguments.items() for word in pair]
    with timed(facts):
        main(given, standalone_mode=False)
    kept = datasets.load_from_disk(str(folder / "out"))["row"]
    gone = np.ones(options["rows"], bool)
    gone[np.asarray(kept)] = False
    np.save(options["out"], gone)
    shutil.rmtree(folder)
    return facts


if __name__ == "__main__":
    serve(work)

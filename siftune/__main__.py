"""``python -m siftune`` is ``siftune``."""

from siftune.pipelines.cli import main

main()

"""``python -m pipelines`` is ``siftune``."""

from pipelines.cli import main

main()

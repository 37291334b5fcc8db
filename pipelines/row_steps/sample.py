"""Answer prompts K times with a model of the pipeline, and keep the answers as ranked rows."""

from siftune.finetune.tools.sample import Sample

__all__ = ["Sample"]

"""Training on what was kept."""

if __name__ != "siftune.finetune":
    raise ImportError("import siftune.finetune: this folder is a part of the package siftune")

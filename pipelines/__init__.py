"""From raw rows to an aligned model in one run, and the report on it."""

if __name__ != "siftune.pipelines":
    raise ImportError("import siftune.pipelines: this folder is a part of the package siftune")

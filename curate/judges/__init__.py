"""Backends of an LLM judge, one a file: a server, a model in this process, a script."""

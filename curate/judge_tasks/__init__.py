"""Tasks of an LLM judge, one a file: the prompt, its parser, and the columns it gives."""

"""The LLM judge: shapes, the engine that asks, its cache, spending, parsing and fences."""

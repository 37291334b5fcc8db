"""The report of a pipeline run: sections, charts and the figures in them."""

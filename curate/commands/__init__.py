"""Click commands made from component dataclasses: options, help, output paths."""

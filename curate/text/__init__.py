"""Text statistics: word and token counts, non-answer patterns, language-model loss."""

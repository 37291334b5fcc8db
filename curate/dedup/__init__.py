"""Near-duplicate search: MinHash, exact join, cover rule, guards of numbers and names, leaks."""

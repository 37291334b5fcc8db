"""Equal and near-equal texts: hashes, shingle sets, the exact join, the cover rule."""

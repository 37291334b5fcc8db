"""Quality heads: small models on frozen embeddings, fitted to a few hundred labelled rows."""

"""Embeddings and what is done with them: models, neighbours, clusters, picks."""

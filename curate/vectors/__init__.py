"""Embeddings: models, nearest neighbours, clusters, k-center, facility location."""

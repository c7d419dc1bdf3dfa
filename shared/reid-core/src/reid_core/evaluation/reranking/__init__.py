"""Neighbour lists, k-reciprocal re-ranking and query expansion, exact and sparse."""

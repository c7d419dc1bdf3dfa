"""Protocols: who is searched where, what counts as a match, whether the labels allow it."""

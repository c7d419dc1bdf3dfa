"""The counting engine: scores of pairs, fast products, rivals per match."""

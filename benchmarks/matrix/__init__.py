"""The benchmark matrix: every method on every data set, measured the same way, and the ledger."""

"""Benchmarks that a user can repeat; each writes its raw results with the versions, the seed and the machine."""

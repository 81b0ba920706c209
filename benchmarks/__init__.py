"""Measurements that a user can repeat; each writes its raw result beside the versions, the seed and the machine."""

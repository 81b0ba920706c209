"""The training package: a torchkeras fit loop for adapters, and the table of methods."""

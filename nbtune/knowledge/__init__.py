"""The knowledge package: facts, and the code that phrases, teaches, proves and stores them."""

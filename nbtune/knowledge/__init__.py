"""The knowledge room: facts, how they are asked for, taught, proved and kept."""

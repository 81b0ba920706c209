"""The model room: loading, generation, named adapters."""

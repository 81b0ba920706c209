"""Models: loading, generation, adapters and export."""

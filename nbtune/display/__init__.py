"""The display package: the only place that decides how output looks, as text and as HTML."""

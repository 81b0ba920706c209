"""The display room: the one place that decides how things look, as text and as HTML."""

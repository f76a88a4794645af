"""Watching a run: what it tells of itself while it goes on, and what can be read from that."""

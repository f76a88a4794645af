"""Embedding tables: their rows and provenance, and the forms in which they are written and read."""

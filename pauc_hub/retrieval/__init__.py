"""Answers from embedding tables: neighbours of an image, and pages that show them."""

"""Bytes to pixels: decoding and preprocessing."""

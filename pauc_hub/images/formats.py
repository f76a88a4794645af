"""Formats of image files that are read, and the suffixes by which they are found."""

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")
SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif"})
NEVER_DEEP = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif"})  # which have 8 bits at most

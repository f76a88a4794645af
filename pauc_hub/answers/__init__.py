"""One function a verb: images or tables in, files and numbers out."""

"""A run of `pauc embed`: from a source to a table, whatever stops it, by one process or several."""

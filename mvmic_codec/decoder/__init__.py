"""The decoder: from the bytes of a file to sample values."""

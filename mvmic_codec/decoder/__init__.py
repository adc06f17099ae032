"""The way from bytes to planes."""

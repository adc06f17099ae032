"""The bytes of a file: container, symbols, flat areas. Nothing here imports torch."""

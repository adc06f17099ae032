"""A learned medical-image codec that behaves like any other Pillow format."""

__version__ = "0.1.0"

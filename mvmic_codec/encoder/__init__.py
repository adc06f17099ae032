"""Planes -> bytes. A decoder knows nothing of the choices made here, so they may change."""

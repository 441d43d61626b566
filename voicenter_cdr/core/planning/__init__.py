"""Windows to request, and the proof that they are complete. Pure."""

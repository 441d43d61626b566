"""Windows to ask for, and the proof of what a page shows. Pure."""

"""Scanned digits on photographs, to be found and named."""

"""Blocks that were found, written in a form."""

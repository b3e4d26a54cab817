"""Small valid files with a few bytes or fields changed. Each number is another mutant, always the same.

`python -m fuzz 5000` from tests/ tries so many; tests/test_fuzz.py tries a part.
"""

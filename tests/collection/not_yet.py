"""Files that the recogniser fails on, by pattern, and why. Each is a test that must fail until its cause is gone."""

NOT_YET: dict[str, str] = {}

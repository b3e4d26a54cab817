"""Results as one HTML page with pictures inside: no script, no other file, no address."""

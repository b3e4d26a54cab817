"""Files on disk: written beside and renamed, described by a manifest, opened without trust."""

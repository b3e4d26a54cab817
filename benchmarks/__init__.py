"""Scripts that print tables; results/ keeps what they printed, with machine, versions and commit."""

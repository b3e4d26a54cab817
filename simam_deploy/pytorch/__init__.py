"""SimAM in PyTorch: the module, models by name with their checkpoints, and modules of other people."""

"""Files that the recogniser fails on, by pattern, and why. Each is a test that must fail until its cause is gone."""

NOT_YET: dict[str, str] = {
    "batch_norm_of_planes-*": "BatchNormalization in training mode is not known",
    "softmax_of_two-*": "Softmax is not known as a gate",
    "clamped_z-*": "a bound that is never met cannot be told from one that is",
    "softplus-dynamo-18-all": "Softplus as Where, with a side that no probe shows",
    "lambda_through_two_functions": "an attribute that comes from an attribute",
}

"""Files that the recogniser fails on, by pattern, and why. Each is a test that must fail until its cause is gone."""

NOT_YET: dict[str, str] = {
    "layer_norm-dynamo-18-all": "LayerNormalization is not looked into",
    "layer_norm-dynamo-18-all-*": "LayerNormalization is not looked into",
    "layer_norm_of_flat-dynamo-18-all": "LayerNormalization is not looked into",
    "batch_norm_of_planes-*": "BatchNormalization in training mode is not known",
    "softmax_of_two-*": "Softmax is not known as a gate",
    "clamped_z-*": "a bound that is never met cannot be told from one that is",
    "softplus-dynamo-18-all": "Softplus as Where, with a side that no probe shows",
    "chunks_of_channels-torchscript-13-static": "sizes are not followed through Split",
    "lambda_through_two_functions": "an attribute that comes from an attribute",
    "function_with_the_gate_as_second_output": "the call that stays and the new node have one name",
}

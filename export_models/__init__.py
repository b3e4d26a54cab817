"""Models to export, one per file: build() -> (module in eval mode, example input).

    resnet18, resnet50   image classifiers: SimAM behind conv2 (published), at the end of a block, or nowhere
    mobilenetv2          image classifier on depthwise convolutions
    detector             CSP backbone, PAN neck with SimAM, three outputs; any batch, height and width
    digits               trained here, on scans that come with scikit-learn
    scenes               trained here: finds such scans on photographs that come with scikit-learn, and names them

The accuracy of the trained two can be measured. The others have random weights, the same in every call, scaled so
that outputs are of order 1 (`_random.py`).
"""

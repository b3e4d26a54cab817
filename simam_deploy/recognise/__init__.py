"""From an ONNX graph to a piece of it that is proven to be SimAM, in five steps, a file each:

    operators   what each standard operator can do to data
    flow        what depends on data and what on sizes alone; where a gate may have made a value
    cut         the closed piece of the graph between x and such a value
    piece       that piece as a function of arrays, run in float64 within bounds
    judge       asks proof.py of that function, at every size that it may meet

`probes` are the sizes, `doubts` what no probe can show. `frozen` knows for which size a constant M - 1 is right,
`ranks` the rank of a value without a shape, `rounded` what constants were before a converter made them 16 bits wide.
`quantised` takes the rounding of a quantiser out, to tell what was SimAM before.
blocks.py puts it all together.
"""

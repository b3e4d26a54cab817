"""From an ONNX graph to blocks that are SimAM, in five steps, a file each; `find` puts them together.

    op_sets        what each standard operator can do to data
    dataflow       what depends on data and what on sizes alone; where a gate may have made a value
    subgraph       the closed subgraph between x and such a value
    run_subgraph   that subgraph as a function of arrays, run in float64 within bounds
    judge          checks that function against the formula (`equivalence`), at every size that it may meet

`probe_shapes` are these sizes; `unverifiable` lists what no probe can show. `fixed_size` knows for which size a
constant M - 1 is right, `infer_rank` the rank of a value without a shape, `half_constants` what constants were before
a converter made them 16 bits wide. `quantised` takes the rounding of a quantiser out, to tell what was SimAM before.
`epilogue` is what follows a block, and `epilogue_nodes` our operators that hold one.
"""

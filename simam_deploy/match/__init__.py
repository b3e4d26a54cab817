"""The search for SimAM blocks in an ONNX graph, one file for each step. `find` puts them together.

    op_sets        classes of standard operators, by their effect on data
    dataflow       data dependencies; candidates for the end of a block
    candidates     closed candidate subgraphs between x and the end; `subgraph` is one
    operand        type and shape of x
    run_subgraph   the subgraph as a function of arrays, run in float64 within bounds; `subgraph_model` writes it
    judge          equivalence check of that function against the formula, at each size that it may meet

`probe_shapes` lists these sizes. `unverifiable` lists the operators that no probe can check. `fixed_size` finds the
map size for which a constant M - 1 is right. `infer_rank` infers the rank of a value without a shape.
`half_constants` recovers constants that a converter rounded to 16 bits. `quantised` removes the rounding of a
quantiser. `epilogue` checks the operators behind a block, `epilogue_nodes` our operators that hold an epilogue.
"""

"""PTX, NVIDIA's portable assembly, run over all lanes of a grid as NumPy arrays.

`parser` reads it, `flow` finds where lanes meet again, `translate` turns each basic block into one Python
function over arrays, `machine` runs the blocks, `memory`, `observe` and `races` watch every access.
"""

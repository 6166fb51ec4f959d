"""Pure compute on torch: semantic IDs, pruned transformers, constrained beam search, bundles."""

"""How the model is run: memory layout, compilation, division of batches."""

"""How the model is run: division of batches, dispatch, compilation."""

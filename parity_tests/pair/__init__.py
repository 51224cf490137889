"""Any pair: a JAX function and a PyTorch module that someone else wrote, compared layer by layer."""

"""The model: what encoder, bottleneck and decoder are made of."""

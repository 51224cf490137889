"""The commands that show a latent space and walk through it."""

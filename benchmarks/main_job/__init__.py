"""The main job: prove the twins equal, train both, show what came of it."""

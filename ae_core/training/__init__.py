"""How a twin is trained, whichever it is: the engine's contract, the loop, initial weights, learning rates."""

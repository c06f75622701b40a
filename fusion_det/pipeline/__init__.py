"""Plan of stages, content-addressed store, and the engine that runs one into the other."""

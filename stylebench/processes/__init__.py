"""Several processes for one picture: who they are, and the rows that each holds."""

"""The page of a run: what it shows, the server that it comes from, and the page itself."""

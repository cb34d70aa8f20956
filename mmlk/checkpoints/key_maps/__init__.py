"""One table per authors' repository."""

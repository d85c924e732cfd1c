"""A study: declared variations over seeds, and what runs them."""

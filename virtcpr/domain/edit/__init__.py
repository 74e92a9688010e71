"""A domain's XML edited in place: what ``prepare`` changes, records and undoes."""

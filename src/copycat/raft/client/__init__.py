"""A client's session: operations in order, exactly once, across servers."""

"""Questions to one server at a time, on a connection for each, that need no session: of clients and of servers."""

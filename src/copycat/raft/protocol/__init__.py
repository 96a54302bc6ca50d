"""What servers and clients say to each other, and the shapes a state machine sees."""

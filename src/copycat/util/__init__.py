"""Small tools every room may use. They know nothing of Raft, wires or disks."""

//! Everything that needs sockets, files or the built binary.

fn main() {}

//! Support for the shells: durable files, framing, control socket.

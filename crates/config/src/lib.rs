//! Every setting of a Mastio, read once from the environment and proxy.env.

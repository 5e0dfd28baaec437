//! An agent's side: enrol, log in, call.

//! Use cases of calls: who may reach whom, messages.

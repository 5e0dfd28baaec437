//! Use cases of trust: first boot, enrolment, authentication, tokens.

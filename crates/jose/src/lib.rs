//! JWK, JWT, DPoP proofs, client assertions and access tokens. Pure.

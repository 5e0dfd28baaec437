//! Where private keys live and sign.

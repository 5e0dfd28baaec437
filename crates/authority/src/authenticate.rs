//! Who is calling: from what was presented to an active agent, one step after the other.
//!
//! Certificate: verified path → identity → our organisation → active row → pin. Token: signature → time → epoch →
//! active row → binding. DPoP: proof → registered key → used up last. Every route uses these and nothing else
//! (contract `auth.md` §2, §3, §6; design decisions 1, 8, 10–12).

use std::sync::Arc;

use mastio_config::EgressDpop;
use mastio_core::{AgentId, Event, Jkt, PrincipalKind, Stamp, Thumbprint, event::catalogue, sha256};
use mastio_jose::{TokenClaims, token};
use mastio_pki::{Certificate, Group};
use mastio_store::{Unit, agents::Standing};

pub use crate::auth_error::AuthError;
use crate::{
    Authority, Outage,
    peer::{ClientChain, Peer, PeerCertificate},
    proofs::RequestLine,
    registry::Agent,
    trust::Trust,
};

/// An authenticated agent, and how it proved itself.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The agent.
    pub agent: Arc<Agent>,
    /// Its proof.
    pub auth: Auth,
}

/// How a caller proved itself.
#[derive(Debug, Clone)]
pub enum Auth {
    /// A client certificate, with a DPoP proof if one came along.
    Mtls {
        /// The certificate.
        thumbprint: Thumbprint,
        /// When it ends, seconds since the epoch.
        not_after: i64,
        /// The key of the proof.
        jkt: Option<Jkt>,
    },
    /// An access token of ours.
    Token {
        /// What it says.
        claims: Arc<TokenClaims>,
    },
}

/// A token whose signature was verified, under which trust state, and how long its key counts.
#[derive(Debug, Clone)]
pub(crate) struct KnownToken {
    generation: u64,
    key_until: Option<Stamp>,
    claims: Arc<TokenClaims>,
}

/// An agent whose certificate holds, before any proof.
#[derive(Debug, Clone)]
pub struct Pinned {
    /// The agent.
    pub agent: Arc<Agent>,
    /// The certificate it presented.
    pub leaf: Certificate,
}

impl Authority {
    /// The agent behind the certificate that `peer` presented.
    ///
    /// # Errors
    /// The first step that does not hold.
    pub async fn certificate(&self, peer: &Peer) -> Result<Pinned, AuthError> {
        let chain = match &peer.certificate {
            PeerCertificate::Chain(chain) => chain,
            PeerCertificate::None => return Err(AuthError::NotVerified { presented: "<empty>".into() }),
            PeerCertificate::NotVerified(presented) => {
                return Err(AuthError::NotVerified { presented: presented.clone() });
            }
            PeerCertificate::HeaderMissing => return Err(AuthError::HeaderMissing),
            PeerCertificate::Malformed => return Err(AuthError::InvalidPem),
        };
        let agent = self.pinned(chain).await?;
        Ok(Pinned { agent, leaf: chain.leaf.clone() })
    }

    /// Path, identity, organisation, row and pin, for certificates of any origin: TLS, header or `x5c`.
    pub(crate) async fn pinned(&self, chain: &ClientChain) -> Result<Arc<Agent>, AuthError> {
        self.knows_whom_to_believe()?;
        let (trust, now) = (self.trust(), self.clock.now());
        if self.registry.is_revoked(&chain.leaf.thumbprint()) {
            return Err(AuthError::Revoked { agent_id: named(&chain.leaf, &trust) });
        }
        let path = match self.paths.validate(&trust, &chain.leaf, &chain.presented, now) {
            Ok(path) => path,
            Err(error) => {
                let above = self.kept_above(&chain.leaf).await?;
                let kept = self.paths.validate(&trust, &chain.leaf, &above, now);
                kept.map_err(|_| match trust.has_cut(&chain.leaf, [&chain.presented, &above], now) {
                    true => AuthError::CaRotated { agent_id: named(&chain.leaf, &trust) },
                    false => AuthError::NotVerified { presented: format!("FAILED:{error}") },
                })?
            }
        };
        match path.group {
            Group::Org => {
                let id = identity(&chain.leaf, trust.org.as_str())?;
                let agent = self.active(&id).await?;
                self.check_pin(&agent, &chain.leaf)?;
                self.moves.note(&trust, &id, &chain.leaf, || Some(path.anchor.thumbprint()));
                Ok(agent)
            }
            Group::Spire(_) => self.bound(chain).await,
        }
    }

    /// The certificates above `leaf` that its agent was enrolled with: proxies forward the leaf alone, and some clients
    /// send no more. They are links to be checked, not anchors.
    async fn kept_above(&self, leaf: &Certificate) -> Result<Vec<Certificate>, AuthError> {
        let bound = match leaf.spiffe_id() {
            Some(id) => self.registry.bound(id).await.map_err(Outage::from)?,
            None => None,
        };
        let id = match bound {
            Some(binding) => Ok(binding.agent),
            None => identity(leaf, self.trust().org.as_str()),
        };
        let Ok(id) = id else { return Ok(vec![]) };
        let agent = self.registry.find(&id).await.map_err(Outage::from)?;
        let kept = agent.filter(|agent| agent.is_spiffe() || agent.is_pinned_to(&leaf.thumbprint()));
        Ok(kept.map(|agent| agent.above().to_vec()).unwrap_or_default())
    }

    /// The active agent `id`.
    pub(crate) async fn active(&self, id: &AgentId) -> Result<Arc<Agent>, AuthError> {
        let unknown = || AuthError::Unknown { agent_id: id.to_string() };
        let agent = self.registry.find(id).await.map_err(Outage::from)?.ok_or_else(unknown)?;
        match agent.row.standing {
            Standing::Active => Ok(agent),
            Standing::Inactive => Err(unknown()),
            Standing::Revoked { .. } => Err(AuthError::Revoked { agent_id: id.to_string() }),
        }
    }

    fn check_pin(&self, agent: &Agent, leaf: &Certificate) -> Result<(), AuthError> {
        let presented = leaf.thumbprint();
        if agent.pin.is_none() {
            return Err(AuthError::NoPin { agent_id: agent.id().to_string() });
        }
        // What the organisation's CA says of a SPIFFE agent counts for nothing.
        let pinned = !agent.is_spiffe();
        if pinned && agent.is_pinned_to(&presented) {
            return Ok(());
        }
        let graced =
            agent.grace_until(self.clock.now()).filter(|_| pinned && agent.grace_pin == Some(presented));
        let Some(expires_at) = graced else {
            return Err(AuthError::PinMismatch {
                agent_id: agent.id().to_string(),
                serial: leaf.serial_hex(),
                sans: leaf.uri_sans().iter().map(ToString::to_string).collect(),
            });
        };
        let event = catalogue::CertificateGraceMatch { cert_thumbprint: presented, expires_at };
        // Best effort: the request does not wait for it, and the queue being full must not lock the agent out.
        let _ = self.post(Unit::of(Event::new(&event).about(agent.id().as_str())));
        Ok(())
    }

    /// A client certificate and, as the mode demands, a proof by the agent's registered key.
    ///
    /// # Errors
    /// The first step that does not hold.
    pub async fn caller_by_certificate(
        &self,
        peer: &Peer,
        request: &RequestLine<'_>,
    ) -> Result<Caller, AuthError> {
        let Pinned { agent, leaf } = self.certificate(peer).await?;
        let mode = self.settings.dpop.egress_mode;
        let request = RequestLine { proof: request.proof.filter(|proof| !proof.is_empty()), ..*request };
        let proof = match mode {
            EgressDpop::Off => None,
            EgressDpop::Optional | EgressDpop::Required => self.proofs.verify(&request, None, true)?,
        };
        let jkt = match proof {
            None if mode == EgressDpop::Required => return Err(AuthError::ProofRequired),
            None => None,
            Some(proof) => {
                match agent.row.dpop_jkt {
                    None if mode == EgressDpop::Required => return Err(AuthError::NoKeyRegistered),
                    None => {}
                    Some(_) if agent.knows_dpop_key(&proof.jkt, self.clock.now()) => {}
                    Some(_) => return Err(AuthError::KeyNotRegistered),
                }
                Some(proof.consume(&self.proofs)?)
            }
        };
        let auth = Auth::Mtls { thumbprint: leaf.thumbprint(), not_after: leaf.not_after().unix(), jkt };
        Ok(Caller { agent, auth })
    }

    /// An access token of ours with the proof that it is bound to.
    ///
    /// # Errors
    /// The first step that does not hold.
    pub async fn caller_by_token(
        &self,
        peer: &Peer,
        token: &str,
        request: &RequestLine<'_>,
    ) -> Result<Caller, AuthError> {
        let claims = self.verified_token(token)?;
        let id = claims.sub.agent_id().ok_or_else(|| AuthError::TypedPrincipal {
            principal_id: claims.sub.to_string(),
            kind: claims.sub.kind.as_str(),
        })?;
        if self.registry.epoch(&id) != claims.ep {
            return Err(AuthError::TokenEnded);
        }
        let agent = self.active(&id).await?;
        let proof = self.proofs.verify(request, Some(token), false)?;
        let by_certificate = || match (&peer.certificate, claims.cnf.x5t_s256) {
            (PeerCertificate::Chain(chain), Some(x5t)) => chain.leaf.thumbprint() == x5t,
            _ => false,
        };
        match (proof, claims.cnf.jkt) {
            (Some(proof), Some(jkt)) if proof.jkt == jkt => drop(proof.consume(&self.proofs)?),
            (Some(_), Some(_)) => return Err(AuthError::TokenKeyMismatch),
            (Some(proof), None) if by_certificate() => drop(proof.consume(&self.proofs)?),
            (None, _) if by_certificate() => {}
            (None, Some(_)) => return Err(AuthError::TokenProofMissing),
            (_, None) => return Err(AuthError::NotVerified { presented: "<empty>".into() }),
        }
        // Whoever has a token shows its certificate at the next login only, unless the connection shows it now.
        if let PeerCertificate::Chain(chain) = &peer.certificate {
            let trust = self.trust();
            let leads_to = || agent.issuer_of(&chain.leaf.thumbprint(), &trust);
            self.moves.note(&trust, &id, &chain.leaf, leads_to);
        }
        Ok(Caller { agent, auth: Auth::Token { claims } })
    }

    /// Signature and claims of a token, remembered by its hash; time is checked at each use.
    fn verified_token(&self, token: &str) -> Result<Arc<TokenClaims>, AuthError> {
        self.knows_whom_to_believe()?;
        let (trust, now) = (self.trust(), self.clock.now());
        let key = sha256(token.as_bytes());
        if let Some(known) = self.tokens.get(&key)
            && known.generation == trust.generation
            && known.key_until.is_none_or(|until| now < until)
            && now < known.claims.exp.plus(token::LEEWAY)
        {
            return Ok(known.claims);
        }
        let key_until = token::peek_kid(token)
            .and_then(|kid| trust.verifiers.get(kid.as_str()))
            .and_then(|(_, until)| *until);
        let lookup = |kid: &str| {
            trust
                .verifiers
                .get(kid)
                .filter(|(_, until)| until.is_none_or(|until| now < until))
                .map(|(key, _)| key.clone())
        };
        let claims = Arc::new(token::verify(token, lookup, &trust.token_issuer(), now)?);
        let known = KnownToken { generation: trust.generation, key_until, claims: Arc::clone(&claims) };
        self.tokens.insert(key, known);
        Ok(claims)
    }
}

/// The agent that a certificate names, of our organisation.
pub(crate) fn identity(leaf: &Certificate, org: &str) -> Result<AgentId, AuthError> {
    let principal = leaf.principal().ok_or_else(|| AuthError::NoIdentity {
        sans: leaf.uri_sans().iter().map(ToString::to_string).collect(),
        serial: leaf.serial_hex(),
    })?;
    if principal.org.as_str() != org {
        return Err(AuthError::OrgMismatch {
            expected: org.to_owned(),
            presented: principal.org.to_string(),
            agent_name: principal.name.to_string(),
        });
    }
    principal.agent_id().ok_or_else(|| AuthError::TypedPrincipal {
        principal_id: principal.to_string(),
        kind: match principal.kind {
            PrincipalKind::Agent => "agent",
            PrincipalKind::User => "user",
            PrincipalKind::Workload => "workload",
        },
    })
}

/// The same for people to read; empty when it names none.
fn named(leaf: &Certificate, trust: &Trust) -> String {
    identity(leaf, trust.org.as_str()).map(|id| id.to_string()).unwrap_or_default()
}

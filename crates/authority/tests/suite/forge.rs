//! Certificates as others make them: SPIRE, and the CAs of an organisation.

use std::{sync::Arc, time::Duration};

use mastio_authority::{
    Authority,
    enroll::{Brought, Possession},
    sign_csr::{SignError, Signed, sign_request},
};
use mastio_core::{Clock, Rng, Stamp, SystemRng};
use mastio_pki::{Certificate, CsrKind, KeyPair};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType,
};

use crate::world::*;

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// A CA with its key.
pub(crate) struct Ca {
    pub(crate) certificate: Certificate,
    params: CertificateParams,
    pub(crate) key: KeyPair,
}

fn read(made: &rcgen::Certificate) -> Certificate {
    Certificate::from_der(made.der().to_vec()).unwrap()
}

pub(crate) fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

/// What `mastio pki sign-csr` does with a request.
pub(crate) async fn signed(
    world: &World,
    authority: &Authority,
    (request, kind): (&str, &CsrKind),
    rng: &dyn Rng,
) -> Result<Signed, SignError> {
    let mastio_config::Database::Sqlite(path) = world.settings(&[]).database;
    let database = mastio_store::sqlite::Database::open_for_tool(&path).unwrap();
    let clock: Arc<dyn Clock> = Arc::clone(&world.clock) as _;
    let custody = mastio_custody::Local::new(database, None, Arc::clone(&clock), Arc::new(SystemRng));
    sign_request(authority.store(), &custody, (clock.as_ref(), rng), request, kind).await
}

fn dated(now: Stamp, lifetime: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    (params.not_before, params.not_after) =
        (now.minus(Duration::from_secs(10)).to_date_time(), now.plus(lifetime).to_date_time());
    params
}

fn ca(name: &[(DnType, &str)], uris: &[&str], now: Stamp) -> CertificateParams {
    let mut params = dated(now, 24 * 365 * HOUR);
    for (kind, text) in name {
        params.distinguished_name.push(kind.clone(), *text);
    }
    params.subject_alt_names = uris.iter().map(|text| uri(text)).collect();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// What SPIRE puts into an SVID: `C=US, O=SPIRE`, one URI name, both extended usages, an hour.
pub(crate) fn svid_params(id: &str, now: Stamp) -> CertificateParams {
    let mut params = dated(now, HOUR);
    params.distinguished_name.push(DnType::CountryName, "US");
    params.distinguished_name.push(DnType::OrganizationName, "SPIRE");
    params.subject_alt_names = vec![uri(id)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    params
}

impl Ca {
    fn of(params: CertificateParams) -> Self {
        let key = KeyPair::generate_p256().unwrap();
        Self { certificate: read(&params.self_signed(&key).unwrap()), params, key }
    }

    /// The CA that a SPIRE server makes for its trust domain.
    pub(crate) fn spire(domain: &str, now: Stamp) -> Self {
        let name = [(DnType::CountryName, "US"), (DnType::OrganizationName, "SPIFFE")];
        Self::of(ca(&name, &[&format!("spiffe://{domain}")], now))
    }

    /// A CA of somebody else, which names no trust domain.
    pub(crate) fn upstream(now: Stamp) -> Self {
        Self::of(ca(&[(DnType::CommonName, "Upstream Root")], &[], now))
    }

    /// The CA of a SPIRE server below this one.
    pub(crate) fn spire_below(&self, domain: &str, now: Stamp) -> Self {
        let name = [(DnType::CountryName, "US"), (DnType::OrganizationName, "SPIRE")];
        let (params, key) =
            (ca(&name, &[&format!("spiffe://{domain}")], now), KeyPair::generate_p256().unwrap());
        Self { certificate: self.sign(&params, &key), params, key }
    }

    /// An organisation's CA below the Org CA, as `mastio pki sign-csr --ca` makes it.
    pub(crate) async fn below_root(world: &World, authority: &Authority) -> Self {
        let key = KeyPair::generate_p256().unwrap();
        let params = ca(&[(DnType::CommonName, "Own CA")], &[], world.clock.now());
        let mut asked = CertificateParams::default();
        asked.distinguished_name = params.distinguished_name.clone();
        let request = asked.serialize_request(&key).unwrap().pem().unwrap();
        let kind = CsrKind::Ca { lifetime: 24 * 30 * HOUR };
        let Signed { certificate, .. } =
            signed(world, authority, (&request, &kind), &SystemRng).await.unwrap();
        Self { certificate, params, key }
    }

    pub(crate) fn sign(&self, params: &CertificateParams, key: &KeyPair) -> Certificate {
        let issuer = rcgen::Issuer::new(self.params.clone(), &self.key);
        read(&params.signed_by(key, &issuer).unwrap())
    }

    /// A workload with an SVID.
    pub(crate) fn svid(&self, id: &str, now: Stamp) -> Holder {
        let key = KeyPair::generate_p256().unwrap();
        Holder { id: String::new(), chain: vec![self.sign(&svid_params(id, now), &key)], key }
    }

    /// An agent's certificate with this common name and these URI names.
    pub(crate) fn agent(&self, name: &str, uris: &[&str], now: Stamp) -> (CertificateParams, Holder) {
        let mut params = dated(now, 24 * HOUR);
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = uris.iter().map(|text| uri(text)).collect();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate_p256().unwrap();
        let chain = vec![self.sign(&params, &key), self.certificate.clone()];
        (params, Holder { id: name.to_owned(), chain, key })
    }
}

impl Holder {
    pub(crate) fn pem(&self) -> String {
        self.chain.iter().map(Certificate::pem).collect()
    }

    /// What is sent to enroll it, with the key.
    pub(crate) fn brought(&self) -> Brought {
        Brought {
            certificates: self.pem(),
            possession: Possession::Key(self.key.to_pkcs8_pem()),
            update_existing: false,
        }
    }

    /// The same in place of what is there.
    pub(crate) fn update(&self) -> Brought {
        Brought { update_existing: true, ..self.brought() }
    }
}

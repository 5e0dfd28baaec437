//! A time stamping authority: OpenSSL with a root, a CA below it, and a certificate for time stamping.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
};

use tempfile::TempDir;

/// The kind of key that stamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// RSA with 2048 bits.
    Rsa,
    /// ECDSA on P-256.
    P256,
    /// ECDSA on P-384.
    P384,
}

impl Key {
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Rsa => &["-newkey", "rsa:2048"],
            Self::P256 => &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
            Self::P384 => &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"],
        }
    }
}

const CONFIGURATION: &str = "
[req]
distinguished_name = empty
[empty]
[ca]
database = index.txt
new_certs_dir = .
rand_serial = yes
unique_subject = no
default_md = sha256
policy = any
[any]
commonName = supplied
[authority]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign
subjectKeyIdentifier = hash
[stamps]
basicConstraints = CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = critical,timeStamping
[also_serves]
extendedKeyUsage = critical,timeStamping,serverAuth
[not_critical]
extendedKeyUsage = timeStamping
[plain]
keyUsage = critical,digitalSignature
[tsa]
serial = tsa-serial
signer_cert = tsa.pem
signer_key = tsa.key
certs = ca.pem
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha512
accuracy = secs:1, millisecs:500
clock_precision_digits = 3
";

/// Until when certificates are valid that should be.
const FAR: &str = "20991231235959Z";

/// The authority and its files. Each call of OpenSSL runs beside them.
#[derive(Debug)]
pub struct Tsa {
    dir: TempDir,
    /// OpenSSL counts serial numbers in a file, one at a time.
    stamping: Mutex<()>,
}

impl Tsa {
    /// An authority as it should be.
    #[must_use]
    pub fn new(key: Key) -> Self {
        Self::certified(key, "stamps", FAR)
    }

    /// One whose certificate has the extensions of a section of the configuration here, and ends at `end`
    /// (`YYYYMMDDhhmmssZ`).
    #[must_use]
    pub fn certified(key: Key, extensions: &str, end: &str) -> Self {
        let tsa = Self { dir: TempDir::new().unwrap(), stamping: Mutex::default() };
        fs::write(tsa.file("openssl.cnf"), CONFIGURATION).unwrap();
        fs::write(tsa.file("index.txt"), "").unwrap();
        fs::write(tsa.file("tsa-serial"), "01").unwrap();
        let root = ["req", "-x509", "-config", "openssl.cnf", "-extensions", "authority", "-days", "3650"];
        let files = ["-nodes", "-subj", "/CN=Test TSA Root", "-keyout", "root.key", "-out", "root.pem"];
        tsa.openssl(&[&root[..], &files, Key::P256.arguments()].concat());
        tsa.certify("ca", "/CN=Test TSA Issuer", Key::P256, "root", "authority", FAR);
        tsa.certify("tsa", "/CN=Test TSA", key, "ca", extensions, end);
        tsa
    }

    fn certify(&self, name: &str, subject: &str, key: Key, issuer: &str, extensions: &str, end: &str) {
        let file = |suffix| format!("{name}.{suffix}");
        let (request, private, certificate) = (file("csr"), file("key"), file("pem"));
        let request_for = ["req", "-new", "-config", "openssl.cnf", "-nodes", "-subj", subject];
        let files = ["-keyout", &private, "-out", &request];
        self.openssl(&[&request_for[..], &files, key.arguments()].concat());
        let (by, by_key) = (format!("{issuer}.pem"), format!("{issuer}.key"));
        let sign =
            ["ca", "-batch", "-notext", "-config", "openssl.cnf", "-name", "ca", "-extensions", extensions];
        let files = ["-cert", &by, "-keyfile", &by_key, "-in", &request, "-out", &certificate];
        self.openssl(&[&sign[..], &files, &["-startdate", "20200101000000Z", "-enddate", end]].concat());
    }

    /// A file of the authority, such as `root.pem`, `ca.pem` or `tsa.pem`.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The root's certificate in PEM: whom to trust.
    #[must_use]
    pub fn root_pem(&self) -> String {
        fs::read_to_string(self.file("root.pem")).unwrap()
    }

    /// What the authority answers to a TimeStampReq: a TimeStampResp, now.
    #[must_use]
    pub fn reply(&self, query: &[u8]) -> Vec<u8> {
        let _one = self.stamping.lock().unwrap_or_else(PoisonError::into_inner);
        self.through(&["ts", "-reply", "-config", "openssl.cnf", "-section", "tsa"], "-queryfile", query)
    }

    /// The TSTInfo of a TimeStampResp.
    #[must_use]
    pub fn info_of(&self, reply: &[u8]) -> Vec<u8> {
        let token = self.through(&["ts", "-reply", "-token_out"], "-in", reply);
        self.through(&["cms", "-verify", "-noverify", "-inform", "DER"], "-in", &token)
    }

    /// A token over `info`, signed as CMS with its own certificate and `arguments`; also where `openssl ts` would not.
    #[must_use]
    pub fn sign(&self, info: &[u8], arguments: &[&str]) -> Vec<u8> {
        let sign = ["cms", "-sign", "-binary", "-nodetach", "-outform", "DER", "-md", "sha256"];
        let content = ["-econtent_type", "1.2.840.113549.1.9.16.1.4"];
        let signer = ["-signer", "tsa.pem", "-inkey", "tsa.key", "-certfile", "ca.pem"];
        self.through(&[&sign[..], &content, &signer, arguments].concat(), "-in", info)
    }

    /// A TimeStampReq for a SHA-256 in hex, with a nonce of OpenSSL's and `arguments`.
    #[must_use]
    pub fn query(&self, digest: &str, arguments: &[&str]) -> Vec<u8> {
        let query = ["ts", "-query", "-sha256", "-cert", "-digest", digest, "-out", "made.tsq"];
        self.openssl(&[&query[..], arguments].concat());
        fs::read(self.file("made.tsq")).unwrap()
    }

    /// Whether `openssl ts -verify` accepts a TimeStampResp over a SHA-256 in hex.
    #[must_use]
    pub fn verifies(&self, digest: &str, response: &Path) -> bool {
        let response = response.to_str().unwrap();
        self.run(&["ts", "-verify", "-digest", digest, "-in", response, "-CAfile", "root.pem"]).is_ok()
    }

    /// The same for a bare TimeStampToken.
    #[must_use]
    pub fn verifies_token(&self, digest: &str, token: &Path) -> bool {
        let token = token.to_str().unwrap();
        let verify = ["ts", "-verify", "-token_in", "-digest", digest, "-in", token, "-CAfile", "root.pem"];
        self.run(&verify).is_ok()
    }

    /// Runs OpenSSL with `input` in a file that `option` names, and returns what it wrote to `-out`.
    fn through(&self, arguments: &[&str], option: &str, input: &[u8]) -> Vec<u8> {
        let here = TempDir::new_in(self.dir.path()).unwrap();
        let (from, to) = (here.path().join("in"), here.path().join("out"));
        fs::write(&from, input).unwrap();
        let files = [option, from.to_str().unwrap(), "-out", to.to_str().unwrap()];
        self.openssl(&[arguments, &files].concat());
        fs::read(to).unwrap()
    }

    fn openssl(&self, arguments: &[&str]) {
        self.run(arguments).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Result<(), String> {
        let output = Command::new("openssl").args(arguments).current_dir(self.dir.path()).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        if output.status.success() { Ok(()) } else { Err(format!("openssl {arguments:?}: {told}")) }
    }
}

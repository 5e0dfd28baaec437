//! A running Mastio, as the command line of its operator reaches it: over its API, with the secret of its `proxy.env`.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header::CONTENT_TYPE};
use mastio_client::{Admin, Answer, Client, ClientError};
use mastio_config::{Settings, Source};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::Failure;

const ADMIN_SECRET: HeaderName = HeaderName::from_static("x-admin-secret");
/// How long it may take to answer.
const USUAL_PATIENCE: Duration = Duration::from_secs(30);
const BOUNDARY: &str = "----mastio-pki-rotate";

/// Where it is.
#[derive(Args)]
pub(crate) struct Running {
    /// Its address; unless set, https://localhost and the port that is configured.
    #[arg(long)]
    url: Option<String>,
    /// The folder with proxy.env and data.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
}

impl Running {
    /// The folder with proxy.env and data.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Asks it, and returns its answer.
    pub(crate) fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        self.ask_for(USUAL_PATIENCE, method, path, body)
    }

    /// Asks it what may take long.
    pub(crate) fn ask_for(
        &self,
        patience: Duration,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        let (client, secret) = self.reach(patience)?;
        let answer =
            runtime()?.block_on(async { Admin::new(&client, secret).send(method, path, body).await });
        Ok(answer.map_err(told)?.json()?)
    }

    /// Sends it a form with files, and returns its answer.
    pub(crate) fn upload(&self, path: &str, form: &Form) -> Result<Value, Failure> {
        let (client, secret) = self.reach(USUAL_PATIENCE)?;
        let mut secret = HeaderValue::try_from(secret.expose_secret())?;
        secret.set_sensitive(true);
        let kind = HeaderValue::try_from(form.content_type())?;
        let headers = HeaderMap::from_iter([(ADMIN_SECRET, secret), (CONTENT_TYPE, kind)]);
        let body = form.body();
        let answer =
            runtime()?.block_on(async { client.connect().request(Method::POST, path, headers, body).await });
        Ok(answer.and_then(Answer::success).map_err(told)?.json()?)
    }

    fn reach(&self, patience: Duration) -> Result<(Client, SecretString), Failure> {
        let settings = Settings::load(&Source::from_process(&self.dir), &self.dir)?.settings;
        let url = match &self.url {
            Some(url) => url.clone(),
            None => format!("https://localhost:{}", settings.listen.tls.port()),
        };
        let client = Client::builder(&url).timeout(patience);
        let client = match url.starts_with("https:") {
            false => client.build()?,
            true => {
                let path = settings.tls_dir.join("org-ca.crt");
                let ca = fs::read_to_string(&path)
                    .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
                client.ca_pem(&ca).build()?
            }
        };
        Ok((client, settings.admin_secret))
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Fields of a form (RFC 7578), kept from Debug: one is a private key.
pub(crate) struct Form(Vec<(&'static str, SecretString)>);

impl Form {
    /// These fields. PEM does not hold the boundary.
    pub(crate) fn of(fields: impl IntoIterator<Item = (&'static str, SecretString)>) -> Self {
        Self(fields.into_iter().collect())
    }

    fn content_type(&self) -> String {
        format!("multipart/form-data; boundary={BOUNDARY}")
    }

    fn body(&self) -> String {
        let part = |(name, text): &(&str, SecretString)| {
            format!(
                "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{name}.pem\"\r\n\r\n{}\r\n",
                text.expose_secret()
            )
        };
        self.0.iter().map(part).chain([format!("--{BOUNDARY}--\r\n")]).collect()
    }
}

/// Why the server did not do it: in words, and with the reason that scripts look at.
fn told(error: ClientError) -> Failure {
    match error {
        ClientError::Connect { .. } => format!(
            "{error}; is the Mastio running there (--url)? one that is stopped takes mastio pki doctor, lineage, \
             rotate-org-ca and abort --offline"
        )
        .into(),
        ClientError::Refused { status, detail, request } => {
            ClientError::Refused { status, detail: called_here(in_words(detail)), request }.into()
        }
        other => other.into(),
    }
}

/// The detail of a refusal: an object with a hint and its reason, a list of what cannot be processed, or a sentence.
fn in_words(detail: String) -> String {
    let value: Value = serde_json::from_str(&detail).unwrap_or_default();
    if let Some(problems) = value.as_array() {
        let place = |problem: &Value| {
            let mut place = problem["loc"].as_array().into_iter().flatten().filter_map(Value::as_str);
            place.next_back().unwrap_or("?").to_owned()
        };
        let told =
            |problem: &Value| format!("{}: {}", place(problem), problem["msg"].as_str().unwrap_or("?"));
        return problems.iter().map(told).collect::<Vec<_>>().join("; ");
    }
    let told = value["hint"].as_str().zip(value["reason"].as_str());
    told.map(|(hint, reason)| format!("{hint} ({reason})")).unwrap_or(detail)
}

/// What the API names as its own, and how that is called here.
const CALLED_HERE: [(&str, &str); 6] = [
    (", or POST /pki/rotations/{id}/abort", ""),
    ("GET /pki/rotations/{id}", "mastio pki rotation"),
    ("GET /pki/rotations ", "mastio pki rotations "),
    ("force=true", "--force"),
    ("from=", "--from "),
    ("transition=cut", "--transition cut"),
];

/// A refusal in the words of the command line.
fn called_here(refusal: String) -> String {
    let told = CALLED_HERE.iter().fold(refusal, |told, (there, here)| told.replace(there, here));
    match told.strip_prefix("signing halted — pending migration ") {
        Some(id) if !id.contains(' ') => format!("{told}; mastio pki updates apply {id} ends that"),
        _ => told,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_of_the_api_names_what_the_command_line_has() {
        for (detail, told) in [
            (
                r#"{"reason": "agents_left", "hint": "see who they are with GET /pki/rotations/{id}, or force=true"}"#,
                "see who they are with mastio pki rotation, or --force (agents_left)",
            ),
            (
                r#"[{"type": "value_error", "loc": ["query", "grace_days"], "msg": "must be 1", "input": null}]"#,
                "grace_days: must be 1",
            ),
            (
                "signing halted — pending migration m-1",
                "signing halted — pending migration m-1; mastio pki updates apply m-1 ends that",
            ),
            ("invalid admin secret", "invalid admin secret"),
        ] {
            assert_eq!(called_here(in_words(detail.to_owned())), told);
        }
    }
}

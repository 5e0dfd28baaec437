//! `mastio audit verify --follow`: watches the checkpoints of a running Mastio.
//!
//! Every checkpoint must be signed by the log and continue the one before, which is kept in a file. The proof is
//! computed here from the log's tiles (C2SP tlog-tiles), so that any log that publishes them can be watched.

use std::{path::Path, time::Duration};

use http::{HeaderMap, HeaderValue, Method, StatusCode};
use mastio_audit::{
    log_path::LogPath,
    note::{NoteKey, SignedCheckpoint},
    tree::{TileId, Tiles, Tree, TreeHead},
};
use mastio_client::{Client, ClientError, Connection};
use tokio::{runtime::Handle, sync::Mutex};

use super::verify::Verify;
use crate::Ended;

const PUBLIC: &str = "/audit/log";
const ADMIN: &str = "/v1/admin/audit/log";
const NO_PUBLIC_LOG: &str =
    "this Mastio has no public log: pass --admin-secret-file, or set MCP_PROXY_AUDIT_PUBLIC_LOG there";

/// Why the watch ends.
enum Alarm {
    /// Two checkpoints that contradict each other, or one that nobody signed.
    Contradiction(String),
    /// Nothing could be watched.
    Refused(String),
}

pub(super) fn run(url: &str, arguments: &Verify) -> Ended {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("{error}");
            return Ended::Refused;
        }
    };
    match runtime.block_on(watch(url, arguments)) {
        Ok(()) => Ended::Done,
        Err(Alarm::Contradiction(why)) => {
            eprintln!("ALARM: {why}");
            Ended::Failed
        }
        Err(Alarm::Refused(why)) => {
            eprintln!("{why}");
            Ended::Refused
        }
    }
}

async fn watch(url: &str, arguments: &Verify) -> Result<(), Alarm> {
    let mut log = Log::open(url, arguments).map_err(Alarm::Refused)?;
    let mut last = kept(&arguments.state).map_err(Alarm::Refused)?;
    loop {
        match log.newest().await {
            Ok(text) => last = Some(log.step(last, &text, &arguments.state).await?),
            // A server that is restarted is no contradiction.
            Err(why) if arguments.interval > 0 => eprintln!("no answer: {why}"),
            Err(why) => return Err(Alarm::Refused(why)),
        }
        if arguments.interval == 0 {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_secs(arguments.interval)).await;
    }
}

fn kept(state: &Path) -> Result<Option<SignedCheckpoint>, String> {
    match std::fs::read_to_string(state) {
        Ok(text) => SignedCheckpoint::parse(&text)
            .map(Some)
            .map_err(|error| format!("--state {}: {error}", state.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("--state {}: {error}", state.display())),
    }
}

struct Log {
    files: Files,
    keys: Vec<NoteKey>,
}

impl Log {
    fn open(url: &str, arguments: &Verify) -> Result<Self, String> {
        let read = |path: &Path| {
            std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
        };
        if arguments.log_key.is_empty() {
            return Err(
                "name the key of the log with --log-key: it is in log-key.json of every bundle".into()
            );
        }
        let ca = arguments.ca_root.as_deref().map(read).transpose()?;
        let builder = Client::builder(url);
        let builder = match &ca {
            Some(pem) => builder.ca_pem(pem),
            None => builder,
        };
        let client = builder.build().map_err(|error| format!("{url}: {error} (--ca-root names the CA)"))?;
        let mut headers = HeaderMap::new();
        let mut prefix = PUBLIC;
        if let Some(path) = &arguments.admin_secret_file {
            let mut secret = HeaderValue::try_from(read(path)?.trim())
                .map_err(|_| format!("{}: not a secret that fits a header", path.display()))?;
            secret.set_sensitive(true);
            headers.insert("x-admin-secret", secret);
            prefix = ADMIN;
        }
        let files = Files { connection: Mutex::new(client.connect()), headers, prefix };
        Ok(Self { files, keys: arguments.log_key.clone() })
    }

    async fn newest(&self) -> Result<String, String> {
        let bytes = self.files.get("checkpoint").await?;
        String::from_utf8(bytes).map_err(|_| "the checkpoint is not text".to_owned())
    }

    /// Holds the newest checkpoint against the last one; it takes its place if it continues it.
    async fn step(
        &mut self,
        last: Option<SignedCheckpoint>,
        text: &str,
        state: &Path,
    ) -> Result<SignedCheckpoint, Alarm> {
        let contradiction = |error: &dyn std::fmt::Display| Alarm::Contradiction(error.to_string());
        let newest = SignedCheckpoint::parse(text).map_err(|error| contradiction(&error))?;
        let said = newest.unverified();
        let Some(key) = self.keys.iter().find(|key| *key.name() == said.origin) else {
            let why = match &last {
                Some(last) => format!(
                    "{} was handed over to {}, with {} entries where {} were seen: an older database was restored. Look at the entry audit.restored, and pass the new key with --log-key",
                    last.unverified().origin,
                    said.origin,
                    said.head.size,
                    last.unverified().head.size
                ),
                None => format!("the log is {}, and no --log-key is of that name", said.origin),
            };
            return Err(Alarm::Contradiction(why));
        };
        newest.verify(key).map_err(|error| contradiction(&error))?;
        if let Some(last) = &last {
            let (old, new) = (last.unverified(), said);
            let handed_over = old.origin != new.origin;
            if handed_over {
                println!("handed over  {} goes on as {}", old.origin, new.origin);
            }
            match self.continues(old.head, new.head).await {
                Ok(()) => {}
                Err(Alarm::Contradiction(why)) if handed_over => {
                    println!("gap          entries that {} had are not in {}: {why}", old.origin, new.origin);
                }
                Err(Alarm::Contradiction(why)) => return Err(alarm(last, &newest, &why, state)),
                Err(refused) => return Err(refused),
            }
        }
        keep(state, &newest).map_err(Alarm::Refused)?;
        println!(
            "ok           {} has {} entries, root {}",
            said.origin,
            said.head.size,
            hex::encode(said.head.root)
        );
        Ok(newest)
    }

    /// That the tree of `old` is the beginning of the tree of `new`.
    async fn continues(&self, old: TreeHead, new: TreeHead) -> Result<(), Alarm> {
        if old.size > new.size {
            return Err(Alarm::Contradiction(format!(
                "{} entries were seen, and now there are {}",
                old.size, new.size
            )));
        }
        let handle = Handle::current();
        let tiles = Fetched { files: &self.files, handle };
        let proved = tokio::task::block_in_place(|| Tree::new(new.size, &tiles).consistency(old.size));
        let proof = proved.map_err(|error| Alarm::Refused(error.to_string()))?;
        proof.verify(&old, &new).map_err(|error| Alarm::Contradiction(error.to_string()))
    }
}

fn keep(state: &Path, newest: &SignedCheckpoint) -> Result<(), String> {
    let fresh = state.with_extension("new");
    std::fs::write(&fresh, newest.as_str())
        .and_then(|()| std::fs::rename(&fresh, state))
        .map_err(|error| format!("--state {}: {error}", state.display()))
}

/// Keeps both checkpoints: each alone is signed, together they are the evidence.
fn alarm(last: &SignedCheckpoint, newest: &SignedCheckpoint, why: &str, state: &Path) -> Alarm {
    let contradicts = state.with_extension("contradicts");
    let kept = std::fs::write(&contradicts, newest.as_str());
    let (state, contradicts) = (state.display(), contradicts.display());
    let origin = &last.unverified().origin;
    Alarm::Contradiction(match kept {
        Ok(()) => format!(
            "{origin} contradicts what it signed before: {why}. Keep {state} and {contradicts}: both are signed"
        ),
        Err(error) => format!(
            "{origin} contradicts what it signed before: {why}. {contradicts} could not be written ({error}): {newest}"
        ),
    })
}

/// The files of the log.
struct Files {
    connection: Mutex<Connection>,
    headers: HeaderMap,
    prefix: &'static str,
}

impl Files {
    async fn get(&self, path: &str) -> Result<Vec<u8>, String> {
        let path = format!("{}/{path}", self.prefix);
        let mut connection = self.connection.lock().await;
        let answer = connection.request(Method::GET, &path, self.headers.clone(), Vec::new()).await;
        let answer = answer.map_err(|error: ClientError| error.to_string())?;
        match answer.status {
            StatusCode::OK => Ok(answer.body.to_vec()),
            StatusCode::NOT_FOUND if self.prefix == PUBLIC && path.ends_with("/checkpoint") => {
                Err(NO_PUBLIC_LOG.to_owned())
            }
            status => Err(format!("{path}: {status} {}", answer.detail())),
        }
    }
}

/// Tiles that are fetched when they are needed.
struct Fetched<'a> {
    files: &'a Files,
    handle: Handle,
}

impl Tiles for Fetched<'_> {
    type Error = String;

    fn tile(&self, tile: TileId, width: usize) -> Result<Vec<u8>, String> {
        self.handle.block_on(self.files.get(&LogPath::Tile { tile, width }.to_string()))
    }
}

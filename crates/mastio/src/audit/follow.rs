//! `mastio audit verify --follow`: watches the checkpoints of a running Mastio.
//!
//! Every checkpoint must be signed by the log and continue the one before, which is kept in a file. The proof is
//! computed here from the log's tiles (C2SP tlog-tiles), so that any log that publishes them can be watched.

mod seen;

use mastio_core::counted;
use std::{path::Path, time::Duration};

use http::{HeaderMap, HeaderValue, Method, StatusCode};
use mastio_audit::{
    checkpoint::{Checkpoint, SignedCheckpoint},
    log_path::LogPath,
    note::NoteKey,
    tree::{TILE_WIDTH, TileId, Tiles, Tree, TreeHead},
};
use mastio_client::{Client, ClientError, Connection};
use tokio::{runtime::Handle, sync::Mutex};

use self::seen::Seen;
use super::verify::Verify;
use crate::{
    Ended,
    out::{self, complain, say},
};

const PUBLIC: &str = "/audit/log";
const ADMIN: &str = "/v1/admin/audit/log";
const NO_PUBLIC_LOG: &str =
    "this Mastio has no public log: pass --admin-secret-file, or set MCP_PROXY_AUDIT_PUBLIC_LOG there";

/// How large a checkpoint with the signatures of its witnesses may be, in bytes. Anybody may run the log.
const MAX_CHECKPOINT: usize = 64 << 10;
/// The same of a tile: all of its hashes.
const MAX_TILE: usize = TILE_WIDTH * 32;

/// After so many looks at a log that shows checkpoints and withholds their proof somebody has to know; after so many
/// without anything new it is said.
const PATIENCE: u32 = 10;

/// Why the watch ends.
enum Alarm {
    /// Two checkpoints that contradict each other, or one that nobody signed.
    Contradiction(String),
    /// The tiles that prove a checkpoint cannot be had. Once says nothing: a server may be restarted meanwhile.
    Unproved(SignedCheckpoint, String),
    /// Nothing could be watched.
    Refused(String),
}

pub(super) fn run(url: &str, arguments: &Verify) -> Ended {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain!("{error}");
            return Ended::Refused;
        }
    };
    match runtime.block_on(watch(url, arguments)) {
        Ok(()) => Ended::Done,
        Err(Alarm::Contradiction(why)) => {
            complain!("ALARM: {why}");
            Ended::Failed
        }
        Err(Alarm::Refused(why) | Alarm::Unproved(_, why)) => {
            complain!("{why}");
            Ended::Refused
        }
    }
}

async fn watch(url: &str, arguments: &Verify) -> Result<(), Alarm> {
    let mut log = Log::open(url, arguments).map_err(Alarm::Refused)?;
    loop {
        match log.newest().await {
            Ok(text) => match log.step(&text).await {
                Err(Alarm::Unproved(note, why)) if arguments.interval > 0 => {
                    log.wait_for_proof(note, &why)?;
                }
                looked => looked?,
            },
            // A server that is restarted is no contradiction.
            Err(why) if arguments.interval > 0 => complain!("no answer: {why}"),
            Err(why) => return Err(Alarm::Refused(why)),
        }
        if arguments.interval == 0 {
            return Ok(());
        }
        if out::is_closed() {
            return Err(Alarm::Refused("nobody reads what is seen; the watch ends".to_owned()));
        }
        tokio::time::sleep(Duration::from_secs(arguments.interval)).await;
    }
}

struct Log {
    files: Files,
    keys: Vec<NoteKey>,
    seen: Seen,
    /// The first checkpoint that is not proved yet.
    waiting: Option<SignedCheckpoint>,
    /// Looks in a row at which nothing was proved, and at which nothing was new.
    unproved: u32,
    still: u32,
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
        let seen = Seen::read(&arguments.state)?;
        Ok(Self { files, keys: arguments.log_key.clone(), seen, waiting: None, unproved: 0, still: 0 })
    }

    async fn newest(&self) -> Result<String, String> {
        let bytes = self.files.get(LogPath::Checkpoint, MAX_CHECKPOINT).await?;
        String::from_utf8(bytes).map_err(|_| "the checkpoint is not text".to_owned())
    }

    /// Holds the newest checkpoint against the last one; it takes its place if it continues it.
    async fn step(&mut self, text: &str) -> Result<(), Alarm> {
        let contradiction = |error: &dyn std::fmt::Display| Alarm::Contradiction(error.to_string());
        let newest = SignedCheckpoint::parse(text).map_err(|error| contradiction(&error))?;
        let said = newest.unverified();
        let Some(key) = self.keys.iter().find(|key| *key.name() == said.origin) else {
            return Err(Alarm::Contradiction(self.unknown(said)));
        };
        newest.signed_by(key).map_err(|error| contradiction(&error))?;
        let before = self.seen.before(&said.origin).map_err(|why| self.alarm(&newest, &why))?;
        if let Some(last) = before {
            let old = last.unverified();
            let handed_over = old.origin != said.origin;
            if handed_over {
                say!("handed over  {} goes on as {}", old.origin, said.origin);
            }
            match self.continues(old.head, &newest).await {
                Err(Alarm::Contradiction(why)) if handed_over => {
                    say!("gap          entries that {} had are not in {}: {why}", old.origin, said.origin);
                }
                Err(Alarm::Contradiction(why)) => return Err(self.alarm(&newest, &why)),
                looked => looked?,
            }
        }
        if let Some(waiting) = self.waiting.clone().filter(|note| note.unverified().origin == said.origin) {
            match self.continues(waiting.unverified().head, &newest).await {
                Err(Alarm::Contradiction(why)) => return Err(self.alarm(&waiting, &why)),
                looked => looked?,
            }
        }
        self.proved(newest)
    }

    fn proved(&mut self, newest: SignedCheckpoint) -> Result<(), Alarm> {
        let (origin, head) = (newest.unverified().origin.clone(), newest.unverified().head);
        self.still = if self.seen.newest() == Some(&newest) { self.still + 1 } else { 0 };
        (self.waiting, self.unproved) = (None, 0);
        self.seen.keep(newest).map_err(Alarm::Refused)?;
        say!(
            "ok           {origin} has {}, root {}",
            counted(head.size, "entry", "entries"),
            hex::encode(head.root)
        );
        if self.still > 0 && self.still.is_multiple_of(PATIENCE) {
            say!(
                "–            {origin} shows the same checkpoint since {}",
                counted(self.still, "look", "looks")
            );
        }
        Ok(())
    }

    /// Keeps a checkpoint that is not proved yet, for the next look; too many of these are an alarm.
    fn wait_for_proof(&mut self, note: SignedCheckpoint, why: &str) -> Result<(), Alarm> {
        self.unproved += 1;
        if self.unproved >= PATIENCE {
            let why = format!("it is not proved since {} ({why})", counted(self.unproved, "look", "looks"));
            return Err(self.alarm(self.waiting.as_ref().unwrap_or(&note), &why));
        }
        let said = note.unverified();
        say!(
            "–            {} shows {} without proof, look {} of {PATIENCE}: {why}",
            said.origin,
            counted(said.head.size, "entry", "entries"),
            self.unproved
        );
        self.waiting.get_or_insert(note);
        Ok(())
    }

    /// A name without a key.
    fn unknown(&self, said: &Checkpoint) -> String {
        match self.seen.newest().map(SignedCheckpoint::unverified) {
            Some(last) => format!(
                "{} was handed over to {}, with {} where {} had been seen: an older database was restored. Look at the entry audit.restored, and pass the new key with --log-key",
                last.origin,
                said.origin,
                counted(said.head.size, "entry", "entries"),
                last.head.size
            ),
            None => format!("the log is {}, and no --log-key is of that name", said.origin),
        }
    }

    /// That the tree of `old` is the beginning of the tree of `new`.
    async fn continues(&self, old: TreeHead, newest: &SignedCheckpoint) -> Result<(), Alarm> {
        let new = newest.unverified().head;
        if old.size > new.size {
            return Err(Alarm::Contradiction(format!(
                "{} seen, and now {} there",
                counted(old.size, "entry was", "entries were"),
                counted(new.size, "is", "are")
            )));
        }
        let handle = Handle::current();
        let tiles = Fetched { files: &self.files, handle };
        let proved = tokio::task::block_in_place(|| Tree::new(new.size, &tiles).consistency(old.size));
        let proof = proved.map_err(|error| Alarm::Unproved(newest.clone(), error.to_string()))?;
        proof.verify(&old, &new).map_err(|error| Alarm::Contradiction(error.to_string()))
    }

    /// Keeps `note` beside what was seen: each alone is signed, together they are the evidence.
    fn alarm(&self, note: &SignedCheckpoint, why: &str) -> Alarm {
        let state = self.seen.path();
        let contradicts = state.with_extension("contradicts");
        let kept = std::fs::write(&contradicts, note.as_str());
        let (state, contradicts) = (state.display(), contradicts.display());
        let origin = &note.unverified().origin;
        Alarm::Contradiction(match kept {
            Ok(()) => format!(
                "{origin} contradicts what it signed before: {why}. Keep {state} and {contradicts}: both are signed"
            ),
            Err(error) => format!(
                "{origin} contradicts what it signed before: {why}. {contradicts} could not be written ({error}): {note}"
            ),
        })
    }
}

/// The files of the log.
struct Files {
    connection: Mutex<Connection>,
    headers: HeaderMap,
    prefix: &'static str,
}

impl Files {
    /// A file of at most `max` bytes.
    async fn get(&self, file: LogPath, max: usize) -> Result<Vec<u8>, String> {
        let path = format!("{}/{file}", self.prefix);
        let (mut connection, headers) = (self.connection.lock().await, self.headers.clone());
        let answer = connection.request_up_to(max, Method::GET, &path, headers, Vec::new()).await;
        let answer = answer.map_err(|error: ClientError| error.to_string())?;
        match answer.status {
            StatusCode::OK => Ok(answer.body.to_vec()),
            StatusCode::NOT_FOUND if self.prefix == PUBLIC && file == LogPath::Checkpoint => {
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
        self.handle.block_on(self.files.get(LogPath::Tile { tile, width }, MAX_TILE))
    }
}
